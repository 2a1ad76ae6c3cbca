"""Calls that schemathesis makes up for every operation, and what an answer must be to stand."""

from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from tests.support.engine import EngineProcess

EXCLUDED = [
    # the administrator's token is sent with every call, also where none is needed
    ignored_auth,
    # a schema cannot say that a strategy must exist, or that `from` must not be after `to`
    positive_data_acceptance,
]
# these end the sessions of the one administrator that the calls are made as, or change how it signs in
ENDS_SESSIONS = (
    *("/auth/logout", "/auth/logout-all", "/auth/password"),
    *("/auth/mfa", "/auth/mfa/enroll", "/auth/mfa/confirm"),
)
# endless, or an engine and an exchange of its own for every call
NOT_TRIED = ("/stream", "/risk/killswitch/drills")


def operations(engine: EngineProcess) -> list[Any]:
    """Return the operations that can be tried without ending the trying."""
    found = [
        each.ok() for each in schemathesis.openapi.from_url(f"{engine.base_url}/openapi.json").get_all_operations()
    ]
    return [
        operation
        for operation in found
        if not operation.path.endswith((*ENDS_SESSIONS, *NOT_TRIED)) and "killswitch" not in operation.path
    ]


def try_operation(engine: EngineProcess, operation: Any, *, cases: int, seed: bool = True) -> int:
    """Make *cases* calls of *operation*; raises what schemathesis or hypothesis has against an answer.

    Returns how many were made. With *seed* the calls are the same every time.
    """
    headers = {"Authorization": f"Bearer {engine.login()}"}
    made = 0

    @settings(
        max_examples=cases,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        derandomize=seed,
        database=None,
        deadline=None,
    )
    @given(case=operation.as_strategy())
    def check(case: Any) -> None:
        nonlocal made
        made += 1
        answer = case.call(headers=headers)
        assert answer.status_code < 500 or answer.status_code == 503, answer.text
        if answer.status_code >= 400:
            error = answer.json()["error"]
            assert {"message", "code", "statusCode", "timestamp", "details"} <= set(error), answer.text
            assert not [trace for trace in ("Traceback", "asyncpg", 'File "/') if trace in answer.text]
        case.validate_response(answer, excluded_checks=EXCLUDED)

    check()
    return made
