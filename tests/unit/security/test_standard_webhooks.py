"""Standard Webhooks: the published example, and the forms that are refused."""

import base64
from datetime import UTC, datetime

import pytest

from engine.security import standard_webhooks as standard
from engine.security.signatures import SignatureFault as Fault

# the example of the specification's reference libraries
KEY = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
BODY = b'{"test": 2432232314}'
GIVEN = {
    "message_id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "timestamp": "1614265330",
    "signatures": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
NOW = datetime.fromtimestamp(1614265330, UTC)


def verify(*keys, body=BODY, now=NOW, **changes):
    return standard.verify(list(keys) or [KEY], body, now=now, max_skew_s=300, **(GIVEN | changes))


def test_published_example_is_believed():
    assert verify() is None
    assert standard.sign(KEY, GIVEN["message_id"], GIVEN["timestamp"], BODY) == GIVEN["signatures"]


def test_secret_has_the_form_that_libraries_take():
    secret = base64.urlsafe_b64encode(bytes(range(224, 256))).decode().rstrip("=")
    form = standard.secret_form(secret)
    assert base64.b64decode(form.removeprefix("whsec_"), validate=True) == bytes(range(224, 256))
    assert standard.key_bytes(secret) == bytes(range(224, 256))


def test_either_of_two_secrets_is_enough_and_none_is_nothing():
    assert verify(b"x" * 32, KEY) is None
    assert verify(b"x" * 32) is Fault.BAD_SIGNATURE
    assert verify(b"") is Fault.BAD_SIGNATURE
    assert standard.verify([], BODY, now=NOW, max_skew_s=300, **GIVEN) is Fault.BAD_SIGNATURE


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"signatures": None}, Fault.MISSING_SIGNATURE),
        ({"message_id": None}, Fault.MISSING_SIGNATURE),
        ({"timestamp": None}, Fault.TIMESTAMP_REQUIRED),
        ({"timestamp": "1614265330.0"}, Fault.TIMESTAMP_MALFORMED),
        ({"timestamp": "01614265330"}, Fault.TIMESTAMP_MALFORMED),
        ({"message_id": "msg.1"}, Fault.ID_MALFORMED),
        ({"message_id": "msg_1\n"}, Fault.ID_MALFORMED),
        ({"body": BODY + b" "}, Fault.BAD_SIGNATURE),
        ({"signatures": GIVEN["signatures"][:-1]}, Fault.BAD_SIGNATURE),
        ({"signatures": "v1,"}, Fault.BAD_SIGNATURE),
        ({"signatures": GIVEN["signatures"].replace(",", ", ")}, Fault.BAD_SIGNATURE),
        ({"now": datetime.fromtimestamp(1614265330 + 301, UTC)}, Fault.TIMESTAMP_STALE),
        ({"now": datetime.fromtimestamp(1614265330 - 301, UTC)}, Fault.TIMESTAMP_STALE),
        ({"now": datetime.fromtimestamp(1614265330 + 300, UTC)}, None),
    ],
)
def test_delivery_that_is_not_as_it_was_signed_is_refused(changes, fault):
    assert verify(**changes) is fault
