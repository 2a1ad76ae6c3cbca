"""Whole answers of Kite Connect v3, one of each kind, in its shapes: what fuzz tests begin from and maim."""

import json
import struct
from typing import Any

ORDER: dict[str, Any] = {
    "account_id": "AB0001",
    "placed_by": "AB0001",
    "order_id": "1914227164488687616",
    "exchange_order_id": "1200000012345678",
    "parent_order_id": None,
    "status": "COMPLETE",
    "status_message": None,
    "status_message_raw": "RMS:Margin Exceeds,Required:2, Available:1",
    "order_timestamp": "2026-11-20 09:18:57",
    "exchange_update_timestamp": "2026-11-20 09:18:57",
    "exchange_timestamp": "2026-11-20 09:18:57",
    "variety": "iceberg",
    "modified": False,
    "exchange": "NSE",
    "tradingsymbol": "M&M",
    "instrument_token": 519937,
    "order_type": "LIMIT",
    "transaction_type": "BUY",
    "validity": "TTL",
    "validity_ttl": 2,
    "product": "CNC",
    "quantity": 7,
    "disclosed_quantity": 2,
    "price": 159.82,
    "trigger_price": 0,
    "average_price": 156.70000000000002,
    "filled_quantity": 7,
    "pending_quantity": 0,
    "cancelled_quantity": 0,
    "market_protection": 0,
    "meta": {"iceberg": {"leg": 1, "legs": 5, "leg_quantity": 200, "total_quantity": 1000, "remaining_quantity": 800}},
    "tag": None,
    "tags": ["mktp", "mktp:2.00", "T00AB1"],
    "guid": "66270XLptJ40MwQGlH",
}
TRADE: dict[str, Any] = {
    "trade_id": "10000000",
    "order_id": "1914227164488687616",
    "exchange": "NSE",
    "tradingsymbol": "INFY",
    "instrument_token": 408065,
    "product": "CNC",
    "average_price": 156.7,
    "quantity": 7,
    "exchange_order_id": "1200000012345678",
    "transaction_type": "BUY",
    "fill_timestamp": "2026-11-20 09:18:57",
    "order_timestamp": "09:18:57",
    "exchange_timestamp": "2026-11-20 09:18:57",
}
POSITION: dict[str, Any] = {
    "tradingsymbol": "GOLDGUINEA26DECFUT",
    "exchange": "MCX",
    "instrument_token": 53505799,
    "product": "NRML",
    "quantity": 1,
    "overnight_quantity": 3,
    "multiplier": 1,
    "average_price": 23139.75,
    "close_price": 23232,
    "last_price": 23340,
    "value": 801,
    "pnl": 801.0000000001,
    "m2m": 276,
    "unrealised": 801,
    "realised": 0,
    "buy_quantity": 4,
    "buy_price": 23139.75,
    "buy_value": 92559,
    "buy_m2m": 93084,
    "sell_quantity": 4,
    "sell_price": 23340,
    "sell_value": 93360,
    "sell_m2m": 93360,
    "day_buy_quantity": 1,
    "day_buy_price": 23388,
    "day_buy_value": 23388,
    "day_sell_quantity": 4,
    "day_sell_price": 23340,
    "day_sell_value": 93360,
}
HOLDING: dict[str, Any] = {
    "tradingsymbol": "SBIN",
    "exchange": "BSE",
    "instrument_token": 128028676,
    "isin": "INE062A01020",
    "product": "CNC",
    "price": 0,
    "quantity": 16,
    "used_quantity": 0,
    "t1_quantity": 2,
    "realised_quantity": 16,
    "authorised_quantity": 0,
    "authorised_date": "2026-11-20 00:00:00",
    "collateral_type": "",
    "average_price": 801.78,
    "last_price": 815.25,
    "close_price": 814,
    "pnl": 242.46000000000004,
    "day_change": 1.25,
    "mtf": {"quantity": 0, "used_quantity": 0, "average_price": 0, "value": 0, "initial_margin": 0},
}
SEGMENT: dict[str, Any] = {
    "enabled": True,
    "net": 99725.05000000002,
    "available": {
        "adhoc_margin": 0,
        "cash": 245431.6,
        "opening_balance": 245431.6,
        "live_balance": 99725.05000000002,
        "collateral": 0,
        "intraday_payin": 0,
    },
    "utilised": {"debits": 145706.55, "exposure": 38981.25, "span": 101989, "option_premium": -4736.2},
}
PROFILE: dict[str, Any] = {
    "user_id": "AB0001",
    "user_type": "individual",
    "email": "a@b.invalid",
    "user_name": "A B",
    "user_shortname": "A",
    "broker": "ZERODHA",
    "exchanges": ["NSE", "NFO", "MF"],
    "products": ["CNC", "NRML", "MIS"],
    "order_types": ["MARKET", "LIMIT", "SL", "SL-M"],
    "avatar_url": None,
    "meta": {"demat_consent": "physical"},
}
SESSION: dict[str, Any] = {
    **PROFILE,
    "api_key": "key",
    "access_token": "sessiontoken",
    "public_token": "publictoken",
    "enctoken": "",
    "refresh_token": "",
    "silo": "",
    "login_time": "2026-11-20 08:15:14",
}
LAST_PRICES: dict[str, Any] = {
    "NSE:INFY": {"instrument_token": 408065, "last_price": 1450.5},
    "NSE:NIFTY 50": {"instrument_token": 256265, "last_price": 24500},
}
GTT: dict[str, Any] = {
    "id": 112127,
    "user_id": "AB0001",
    "parent_trigger": None,
    "type": "two-leg",
    "created_at": "2026-11-20 09:18:57",
    "updated_at": "2026-11-20 09:18:57",
    "expires_at": "2027-11-20 09:18:57",
    "status": "triggered",
    "condition": {
        "exchange": "NSE",
        "last_price": 102.6,
        "tradingsymbol": "RAIN",
        "trigger_values": [102.0, 103.7],
        "instrument_token": 3926273,
    },
    "orders": [
        {
            "exchange": "NSE",
            "tradingsymbol": "RAIN",
            "product": "CNC",
            "order_type": "LIMIT",
            "transaction_type": "SELL",
            "quantity": 1,
            "price": 1,
            "result": None,
        },
        {
            "exchange": "NSE",
            "tradingsymbol": "RAIN",
            "product": "CNC",
            "order_type": "LIMIT",
            "transaction_type": "SELL",
            "quantity": 1,
            "price": 1,
            "result": {
                "account_id": "AB0001",
                "timestamp": "2026-11-20 10:18:57",
                "triggered_at": 103.7,
                "order_result": {
                    "status": "failed",
                    "order_id": "",
                    "rejection_reason": "Your order price is lower than the current lower circuit limit of 70.65.",
                },
            },
        },
    ],
    "meta": {},
}
POSTBACK: dict[str, Any] = {
    **ORDER,
    "user_id": "AB0001",
    "unfilled_quantity": 0,
    "app_id": 1234,
    "checksum": "2011845d9348bd6795151bf4258102a03431e3bb12a79c0df73fcb4b7fde4b5d",
}
INSTRUMENTS = (
    b"instrument_token,exchange_token,tradingsymbol,name,last_price,expiry,strike,tick_size,lot_size,"
    b"instrument_type,segment,exchange\n"
    b"408065,1594,INFY,INFOSYS,1450.5,,0.0,0.1,1,EQ,NSE,NSE\n"
    b'12073986,47164,NIFTY26DEC24500CE,"NIFTY, 50",2528.4,2026-12-29,24500.0,0.05,65,CE,NFO-OPT,NFO\n'
    b"256265,1001,NIFTY 50,NIFTY 50,0.0,,0.0,0,0,EQ,INDICES,NSE\n"
)
PACKETS = (
    bytes.fromhex("00063a0100026683"),
    bytes.fromhex("0003e909002555c1002585aa00251c6e00253b4000256250fffff371"),
    bytes.fromhex("0003e909002555c1002585aa00251c6e00253b4000256250fffff37160e2947f"),
    bytes.fromhex("00064c032b5d8830000000012b5cf5b4000003e80000000a000000142b5523c02b6466002b539d202b56aa60"),
    struct.pack(">46I", 408065, *range(1, 46)),
)
FRAME = struct.pack(">H", len(PACKETS)) + b"".join(struct.pack(">H", len(packet)) + packet for packet in PACKETS)


def success(payload: object) -> bytes:
    """The body of a successful read."""
    return json.dumps({"status": "success", "data": payload}).encode()


ORDERS = success([ORDER, {**ORDER, "status": "OPEN", "filled_quantity": 3}])
TRADES = success([TRADE, TRADE])
POSITIONS = success({"net": [POSITION, POSITION], "day": [POSITION]})
HOLDINGS = success([HOLDING])
MARGINS = success({"equity": SEGMENT, "commodity": {**SEGMENT, "enabled": False}})
GTTS = success([GTT, {**GTT, "status": "active", "orders": GTT["orders"][:1]}])
TRIGGERED = success({"trigger_id": 112127})
TAKEN = success({"order_id": "1914227164488687616"})
SLICED = success(
    {
        "order_id": "1914227164488687616",
        "children": [
            {"order_id": "1914227164534824960"},
            {"error": {"code": 400, "error_type": "MarginException", "message": "Insufficient funds.", "data": None}},
        ],
    }
)
PUSH = json.dumps({"type": "order", "id": "", "data": {**ORDER, "checksum": "", "unfilled_quantity": 0}}).encode()
