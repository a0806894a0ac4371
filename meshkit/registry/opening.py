"""From a URL to a registry; the stores are imported when one is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from meshkit.errors import ConfigError
from meshkit.registry.cache import Cache
from meshkit.registry.layouts import DEFAULT_LAYOUT, DEFAULT_NAMESPACE, Layout, make_layout
from meshkit.registry.outage import loop_time
from meshkit.registry.registry import DEFAULT_TTL, Registry
from meshkit.registry.static import StaticRegistry
from meshkit.registry.store import Store

if TYPE_CHECKING:
    from meshkit.events import Emit
    from meshkit.registry.etcd.options import EtcdOptions
    from meshkit.registry.url import RegistryURL
    from meshkit.tasks import Supervisor

__all__ = ["AnyRegistry", "etcd_options", "open_layout", "open_others", "open_registry"]

AnyRegistry: TypeAlias = Registry | StaticRegistry


def open_registry(
    url: RegistryURL,
    *,
    namespace: str | None = None,
    ttl: float | None = None,
    cache: Path | None = None,
    emit: Emit,
    supervisor: Supervisor,
    clock: Callable[[], float] = loop_time,
) -> AnyRegistry:
    """The registry at `url`; no I/O here.

    Args:
        url: where it is; its parameters hold where no argument is given.
        namespace: whose services; None: the URL's, else `default`.
        ttl: of our lease in seconds; None: the URL's, else 15.
        cache: the directory for the last known endpoints, used with etcd; None: they are not kept.
        emit: receives the events.
        supervisor: runs the tasks; open it before the first use, close it after the registry.
        clock: the time in seconds, on the loop's clock.

    Raises:
        ConfigError: something of the URL cannot be used.
    """
    namespace = namespace or url.params.get("namespace") or DEFAULT_NAMESPACE
    if url.scheme == "static":
        return StaticRegistry(url.services, name=str(url), namespace=namespace)
    store = _open_store(url, emit)
    return Registry(
        store,
        open_layout(url),
        also=open_others(url, "also"),
        read=open_others(url, "read"),
        namespace=namespace,
        ttl=ttl or url.number("ttl") or DEFAULT_TTL,
        cache=_open_cache(url, store.name, cache),
        emit=emit,
        supervisor=supervisor,
        clock=clock,
    )


def _open_cache(url: RegistryURL, name: str, directory: Path | None) -> Cache | None:
    """A cache where the registry is another machine's, which may be away when we start."""
    if directory is None or url.scheme not in {"etcd", "etcds"}:
        return None
    return Cache(directory, scope=f"{url.params.get('layout', DEFAULT_LAYOUT)} {name}")


def open_layout(url: RegistryURL) -> Layout:
    """How endpoints are written in the registry at `url`.

    Raises:
        ConfigError: there is no such layout, or it cannot have this prefix.
    """
    etcd = url.scheme in {"etcd", "etcds"}
    return make_layout(url.params.get("layout", DEFAULT_LAYOUT), prefix=url.path if etcd else "")


def open_others(url: RegistryURL, which: str) -> tuple[Layout, ...]:
    """How endpoints are written or read besides, each at its usual place.

    Args:
        url: with `?also=kratos,go-zero` (written) or `?read=kratos,go-zero`.
        which: of the two.

    Raises:
        ConfigError: there is no such layout, or it is named twice.
    """
    names = [name for name in url.params.get(which, "").split(",") if name]
    if len({url.params.get("layout", DEFAULT_LAYOUT), *names}) <= len(names):
        raise ConfigError(
            f"{which}={','.join(names)}: each layout once, and not the one of layout="
        )
    return tuple(make_layout(name) for name in names)


def _open_store(url: RegistryURL, emit: Emit) -> Store:
    if url.scheme == "memory":
        from meshkit.registry.memory import MemoryStore

        return MemoryStore.shared(f"memory://{url.path}")
    if url.scheme == "local":
        from meshkit.registry.local import LocalStore

        return LocalStore(Path(url.path) if url.path else None)
    from meshkit.registry.etcd import EtcdStore

    return EtcdStore(etcd_options(url), emit=emit)


def etcd_options(url: RegistryURL) -> EtcdOptions:
    """How to reach the cluster at `url`.

    Raises:
        ConfigError: parts of it do not go together.
    """
    from meshkit.registry.etcd.options import EtcdOptions

    return EtcdOptions(
        endpoints=url.endpoints,
        username=url.username,
        password=url.password,
        tls=url.tls,
        cacert=url.params.get("cacert"),
        cert=url.params.get("cert"),
        key=url.params.get("key"),
        timeout=url.number("timeout") or EtcdOptions().timeout,
    )
