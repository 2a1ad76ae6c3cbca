import msgspec
import pytest

from engine import boot
from engine.config import Config
from engine.errors import StartupError


def config(max_age_s):
    found = Config()
    # past the bound that reading a file would keep
    signals = msgspec.structs.replace(found.signals, max_age_s=max_age_s)
    return msgspec.structs.replace(found, signals=signals)


@pytest.mark.parametrize("max_age_s", [1, 60, 119, 178])
def test_order_too_old_to_go_before_absence_is_believed_starts(max_age_s):
    boot.check_times(config(max_age_s))


@pytest.mark.parametrize("max_age_s", [179, 180, 600])
def test_order_that_could_go_after_absence_is_believed_is_refused_by_key(max_age_s):
    with pytest.raises(StartupError, match=rf"\[signals\] max_age_s = {max_age_s} .* use less than 179"):
        boot.check_times(config(max_age_s))


def test_horizon_below_the_brokers_delays_is_refused(monkeypatch):
    monkeypatch.setattr(boot, "HORIZON_S", 119)
    with pytest.raises(StartupError, match="120 s"):
        boot.check_times(config(60))
