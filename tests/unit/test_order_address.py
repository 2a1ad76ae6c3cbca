"""What `engine doctor` says of the address that order calls leave by."""

import pytest
import trio

from engine.config import load
from engine.doctor.egress import order_address
from engine.errors import ConfigError, EngineError

ANY = "0.0.0.0"  # noqa: S104 -- nothing listens


def say(**kite: str) -> str:
    variables = {f"ENGINE__BROKER__KITE__{name.upper()}": value for name, value in kite.items()}
    return trio.run(order_address, load(None, {"ENGINE__BROKER__MODE": "kite", **variables}))


def test_paper_needs_no_address() -> None:
    assert "paper" in trio.run(order_address, load(None, {}))


def test_broker_on_this_machine_needs_no_address() -> None:
    assert say(root_url="http://127.0.0.1:9") == "order calls stay on this machine (127.0.0.1)"


def test_bound_address_is_the_one_that_is_shown() -> None:
    assert "(127.0.0.2)" in say(root_url="http://127.0.0.1:9", local_address="127.0.0.2")


def test_address_of_another_machine_is_named_with_its_mend() -> None:
    with pytest.raises(EngineError, match=r"broker.kite.local_address 203.0.113.7 is not an address of this machine"):
        say(local_address="203.0.113.7")


def test_ipv6_broker_cannot_be_reached_when_ipv4_is_forced() -> None:
    with pytest.raises(EngineError, match=r"no way to ::1 from 0\.0\.0\.0"):
        say(root_url="http://[::1]:9", ipv4_only="true")


@pytest.mark.parametrize("text", ["somewhere", ANY, "::", "224.0.0.1", "10.0.0.0/8", "fe80::1%eth0"])
def test_what_is_no_address_of_a_machine_is_refused_at_the_start(text: str) -> None:
    with pytest.raises(ConfigError, match=r"broker.kite.local_address: expected an IP address of this machine"):
        load(None, {"ENGINE__BROKER__KITE__LOCAL_ADDRESS": text})


def test_ipv6_address_and_ipv4_only_contradict_each_other() -> None:
    variables = {"ENGINE__BROKER__KITE__LOCAL_ADDRESS": "2001:db8::1", "ENGINE__BROKER__KITE__IPV4_ONLY": "true"}
    with pytest.raises(ConfigError, match=r"LOCAL_ADDRESS: broker.kite.local_address: is an IPv6 address while"):
        load(None, variables)


@pytest.mark.parametrize(
    ("local", "ipv4_only", "bound"),
    [("", "false", None), ("", "true", ANY), ("192.0.2.4", "true", "192.0.2.4"), ("2001:db8::1", "false", None)],
)
def test_what_sockets_are_bound_to(local: str, ipv4_only: str, bound: str | None) -> None:
    config = load(
        None, {"ENGINE__BROKER__KITE__LOCAL_ADDRESS": local, "ENGINE__BROKER__KITE__IPV4_ONLY": ipv4_only}
    ).broker.kite
    assert config.leaves_by == (bound or local or None)
