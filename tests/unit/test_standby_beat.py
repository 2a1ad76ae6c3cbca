from engine.standby import _SILENT_LOOKS, Beat


def test_beat_that_stands_still_for_all_its_looks_is_silent():
    beat = Beat()
    assert [beat.is_silent("engine", 1) for _ in range(_SILENT_LOOKS)] == [False] * _SILENT_LOOKS
    assert beat.is_silent("engine", 1)


def test_every_beat_begins_the_count_anew():
    beat = Beat()
    for number in range(5):
        assert not any(beat.is_silent("engine", number) for _ in range(_SILENT_LOOKS))


def test_another_engine_begins_the_count_anew_though_its_beat_is_the_same():
    beat = Beat()
    assert not any(beat.is_silent("first", 1) for _ in range(_SILENT_LOOKS))
    assert not beat.is_silent("second", 1)


def test_lock_that_names_nobody_is_never_silent():
    beat = Beat()
    assert not any(beat.is_silent("", 1) for _ in range(_SILENT_LOOKS * 3))
