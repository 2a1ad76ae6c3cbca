"""The paths of OpenAlgo's endpoints."""

TRADING = (
    *("placeorder", "placesmartorder", "basketorder", "splitorder"),
    *("modifyorder", "cancelorder", "cancelallorder", "closeposition"),
)
READING = (
    *("orderbook", "tradebook", "positionbook", "orderstatus", "openposition"),
    *("funds", "holdings", "ping", "symbol", "search", "expiry", "optionsymbol"),
)
OPENALGO = (*TRADING, *READING)
