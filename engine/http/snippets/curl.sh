#!/usr/bin/env bash
# Sends one signal to the trading engine. Paste the keys of the source, which were shown when it was made or rotated,
# into the environment, not into this file:
#   export ENGINE_API_KEY=src_...  ENGINE_SECRET=...
# To try again after no answer, 429 or 5xx: the same KEY, so that it stays one signal.
set -euo pipefail

KEY="${1:-$(date +%s)-$RANDOM$RANDOM}"
BODY='{"symbol":"SBIN","exchange":"NSE","transactionType":"BUY","quantity":1,"orderType":"MARKET","productType":"MIS"}'
TIMESTAMP="$(date +%s)"
SIGNATURE="$(printf '%s.%s' "$TIMESTAMP" "$BODY" | openssl dgst -sha256 -hmac "$ENGINE_SECRET" -r | cut -d' ' -f1)"

curl --silent --show-error --max-time 10 '__BASE_URL____PATH__' \
    -H 'Content-Type: application/json' \
    -H "X-API-Key: $ENGINE_API_KEY" \
    -H "X-Timestamp: $TIMESTAMP" \
    -H "X-Signature: $SIGNATURE" \
    -H "Idempotency-Key: $KEY" \
    --data-binary "$BODY"
