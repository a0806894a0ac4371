from meshkit.registry.local.store import LocalStore

__all__ = ["LocalStore"]
