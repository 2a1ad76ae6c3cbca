"""Who may call what, written down a second time and by hand: what the engine serves is held against it.

A route that is served and not here fails `test_role_matrix.py`: decide who may call it, and write it down.
"""

ANYONE, SIGNED, READERS, TRADERS, ADMINS = "ANYONE", "SIGNED", "READERS", "TRADERS", "ADMINS"
OWN_DOOR = "OWN_DOOR"
"""The endpoint proves its caller itself: a signature, a secret, a token of its own."""

HOLDERS = {
    SIGNED: {"VIEWER", "TRADER", "ADMIN"},
    READERS: {"VIEWER", "TRADER", "ADMIN"},
    TRADERS: {"TRADER", "ADMIN"},
    ADMINS: {"ADMIN"},
}

_LINES = f"""
GET /openapi.json {ANYONE}
GET /docs {ANYONE}
GET /docs/style.css {ANYONE}
GET /metrics {OWN_DOOR}
GET /api/v1/openapi.json {ANYONE}
GET /api/v1/system/health {ANYONE}
GET /api/v1/system/ready {ANYONE}
POST /api/v1/auth/login {ANYONE}
POST /api/v1/auth/refresh {ANYONE}
POST /api/v1/auth/logout {ANYONE}
POST /api/v1/auth/register {ANYONE}
GET /api/v1/auth/me {SIGNED}
POST /api/v1/auth/password {SIGNED}
POST /api/v1/auth/mfa/enroll {SIGNED}
POST /api/v1/auth/mfa/confirm {SIGNED}
DELETE /api/v1/auth/mfa {SIGNED}
GET /api/v1/auth/sessions {SIGNED}
DELETE /api/v1/auth/sessions/{{id}} {SIGNED}
POST /api/v1/auth/step-up {SIGNED}
POST /api/v1/auth/logout-all {SIGNED}
GET /api/v1/auth/tokens {SIGNED}
POST /api/v1/auth/tokens {SIGNED}
DELETE /api/v1/auth/tokens/{{id}} {SIGNED}
POST /api/v1/auth/telegram/link {SIGNED}
GET /api/v1/auth/telegram/link {SIGNED}
DELETE /api/v1/auth/telegram/link {SIGNED}
GET /api/v1/auth/telegram/links {ADMINS}
DELETE /api/v1/auth/telegram/links/{{id}} {ADMINS}
GET /api/v1/users {ADMINS}
POST /api/v1/users {ADMINS}
GET /api/v1/users/{{id}} {ADMINS}
PATCH /api/v1/users/{{id}} {ADMINS}
DELETE /api/v1/users/{{id}} {ADMINS}
DELETE /api/v1/users/{{id}}/mfa {ADMINS}
GET /api/v1/users/{{id}}/sessions {ADMINS}
DELETE /api/v1/users/{{id}}/sessions {ADMINS}
GET /api/v1/users/{{id}}/grants {READERS}
POST /api/v1/users/{{id}}/grants {TRADERS}
DELETE /api/v1/users/{{id}}/grants/{{grantId}} {TRADERS}
GET /api/v1/accounts {READERS}
POST /api/v1/accounts {TRADERS}
GET /api/v1/accounts/{{id}} {READERS}
PATCH /api/v1/accounts/{{id}} {TRADERS}
DELETE /api/v1/accounts/{{id}} {TRADERS}
GET /api/v1/accounts/{{id}}/margins {READERS}
GET /api/v1/accounts/{{id}}/holdings {READERS}
GET /api/v1/accounts/{{id}}/positions {READERS}
GET /api/v1/accounts/{{id}}/readiness {READERS}
GET /api/v1/accounts/{{id}}/login-url {TRADERS}
GET /api/v1/accounts/callback {OWN_DOOR}
POST /api/v1/accounts/{{id}}/session {TRADERS}
POST /api/v1/accounts/{{id}}/unblock {TRADERS}
POST /api/v1/accounts/{{id}}/reconcile {TRADERS}
GET /api/v1/strategies {READERS}
POST /api/v1/strategies {TRADERS}
GET /api/v1/strategies/{{id}} {READERS}
PATCH /api/v1/strategies/{{id}} {TRADERS}
DELETE /api/v1/strategies/{{id}} {TRADERS}
GET /api/v1/sources {READERS}
POST /api/v1/sources {TRADERS}
GET /api/v1/sources/{{id}} {READERS}
PATCH /api/v1/sources/{{id}} {TRADERS}
POST /api/v1/sources/{{id}}/rotate {TRADERS}
POST /api/v1/sources/{{id}}/revoke {TRADERS}
GET /api/v1/sources/{{id}}/snippet {READERS}
DELETE /api/v1/sources/{{id}} {TRADERS}
POST /api/v1/signals/sheets/webhook {OWN_DOOR}
POST /api/v1/signals/webhook/{{sourceId}} {OWN_DOOR}
POST /api/v1/signals/tradingview/{{sourceId}} {OWN_DOOR}
POST /api/v1/signals/telegram/webhook {OWN_DOOR}
POST /api/v1/signals/heartbeat/{{sourceId}} {OWN_DOOR}
POST /api/v1/signals/sheets/ledger {OWN_DOOR}
POST /api/v1/broker/kite/postback {OWN_DOOR}
POST /api/v1/signals {TRADERS}
POST /api/v1/signals/preview {TRADERS}
GET /api/v1/signals/intents {READERS}
GET /api/v1/signals/intents/{{id}} {READERS}
POST /api/v1/signals/intents/{{id}}/approve {TRADERS}
POST /api/v1/signals/intents/{{id}}/reject {TRADERS}
POST /api/v1/signals/intents/{{id}}/cancel {TRADERS}
GET /api/v1/executions/orders {READERS}
GET /api/v1/executions/orders/{{id}} {READERS}
PATCH /api/v1/executions/orders/{{id}} {TRADERS}
POST /api/v1/executions/orders/{{id}}/cancel {TRADERS}
POST /api/v1/executions/orders/cancel-all {TRADERS}
GET /api/v1/executions/positions {READERS}
POST /api/v1/executions/positions/square-off {TRADERS}
GET /api/v1/executions/trades {READERS}
GET /api/v1/executions/pnl {READERS}
GET /api/v1/executions/pnl/points {READERS}
GET /api/v1/executions/gtts {READERS}
POST /api/v1/executions/gtts/{{id}}/cancel {TRADERS}
GET /api/v1/instruments {READERS}
GET /api/v1/instruments/freeze {READERS}
PUT /api/v1/instruments/freeze {ADMINS}
GET /api/v1/instruments/{{exchange}}/{{symbol}} {READERS}
GET /api/v1/market/sessions {READERS}
GET /api/v1/risk/limits {READERS}
POST /api/v1/risk/limits {TRADERS}
PUT /api/v1/risk/limits/{{id}} {TRADERS}
GET /api/v1/risk/state {READERS}
POST /api/v1/risk/killswitch/enable {TRADERS}
POST /api/v1/risk/killswitch/disable {ADMINS}
GET /api/v1/risk/killswitch/status {READERS}
GET /api/v1/risk/killswitch/certificates {READERS}
GET /api/v1/risk/killswitch/drills {READERS}
POST /api/v1/risk/killswitch/drills {ADMINS}
GET /api/v1/system/actors {ADMINS}
GET /api/v1/system/readiness {ADMINS}
POST /api/v1/system/readiness/override {ADMINS}
GET /api/v1/system/queues {ADMINS}
GET /api/v1/system/settings {ADMINS}
GET /api/v1/system/flags {ADMINS}
GET /api/v1/system/metrics {ADMINS}
GET /api/v1/system/dead-letters {ADMINS}
GET /api/v1/system/dead-letters/{{id}} {ADMINS}
POST /api/v1/system/dead-letters/{{id}}/requeue {ADMINS}
POST /api/v1/system/dead-letters/{{id}}/discard {ADMINS}
GET /api/v1/audit {ADMINS}
GET /api/v1/audit/verify {ADMINS}
GET /api/v1/audit/export {ADMINS}
GET /api/v1/stream {READERS}
GET /api/v1/alerts {READERS}
POST /api/v1/alerts/{{id}}/ack {TRADERS}
POST /api/v1/placeorder {OWN_DOOR}
POST /api/v1/placesmartorder {OWN_DOOR}
POST /api/v1/basketorder {OWN_DOOR}
POST /api/v1/splitorder {OWN_DOOR}
POST /api/v1/modifyorder {OWN_DOOR}
POST /api/v1/cancelorder {OWN_DOOR}
POST /api/v1/cancelallorder {OWN_DOOR}
POST /api/v1/closeposition {OWN_DOOR}
POST /api/v1/orderbook {OWN_DOOR}
POST /api/v1/tradebook {OWN_DOOR}
POST /api/v1/positionbook {OWN_DOOR}
POST /api/v1/orderstatus {OWN_DOOR}
POST /api/v1/openposition {OWN_DOOR}
POST /api/v1/funds {OWN_DOOR}
POST /api/v1/holdings {OWN_DOOR}
POST /api/v1/ping {OWN_DOOR}
POST /api/v1/symbol {OWN_DOOR}
POST /api/v1/search {OWN_DOOR}
POST /api/v1/expiry {OWN_DOOR}
POST /api/v1/optionsymbol {OWN_DOOR}
"""

TABLE: dict[tuple[str, str], str] = {
    (method, path): who for method, path, who in (line.split() for line in _LINES.strip().splitlines())
}

ACTS = {
    ("POST", "/api/v1/risk/killswitch/drills"): "starts an engine and an exchange of its own",
    ("POST", "/api/v1/auth/logout"): "ends the session that the other cells are tried with",
    ("POST", "/api/v1/auth/mfa/enroll"): "changes how the person signs in",
    ("DELETE", "/api/v1/auth/mfa"): "changes how the person signs in",
    ("POST", "/api/v1/auth/logout-all"): "ends the session that the other cells are tried with",
}
"""Operations without input to be wrong in: tried here on those who may not call them, elsewhere on the rest."""
