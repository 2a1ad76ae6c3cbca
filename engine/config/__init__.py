"""The configuration: ``engine.toml``, overridden by the environment (contract section 2).

`load` gives one frozen `Config`; every key is described in ``engine.toml.example``.
"""

from engine.config.loading import load
from engine.config.secret_values import decode_key, resolve_secret
from engine.config.sections import (
    BrokerConfig,
    Config,
    DatabaseConfig,
    KiteConfig,
    LimitsConfig,
    LoggingConfig,
    MarketConfig,
    RedisConfig,
    RiskConfig,
    SecurityConfig,
    ServerConfig,
    SignalsConfig,
    TelegramConfig,
    WindowConfig,
)

__all__ = [
    "BrokerConfig",
    "Config",
    "DatabaseConfig",
    "KiteConfig",
    "LimitsConfig",
    "LoggingConfig",
    "MarketConfig",
    "RedisConfig",
    "RiskConfig",
    "SecurityConfig",
    "ServerConfig",
    "SignalsConfig",
    "TelegramConfig",
    "WindowConfig",
    "decode_key",
    "load",
    "resolve_secret",
]
