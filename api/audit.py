"""The audit log of what is changed over HTTP: who, what, and how it ended. Publishing is no change of this kind."""

from quart import Response, g, request
from quart_trio import QuartTrio

from rookery.server.log import get_logger
from rookery.server.store import Audit, AuditEntry, StoreError

from .parameters import BadParameter, Parameters
from .rights import Right

TARGET_SIZE = 1000  # characters that are kept of a path or a header

_NAMES = ("user_id", "client_id", "topic_filter", "expiry_seconds")  # headers that say what is acted on

_log = get_logger(__name__)


def keep_audit_log(app: QuartTrio, table: Audit) -> None:
    """Have app write down every change, also those that were refused to a caller whom we know."""

    @app.after_request
    async def write_down(response: Response) -> Response:
        access = g.get("access")
        if access is None or access.right is not Right.WRITE or response.status_code == 401:
            return response
        headers = Parameters(request.scope["headers"])
        try:
            tenant_id = (request.view_args or {}).get("tenant_id") or headers.text("tenant_id")
            target = {name: text[:TARGET_SIZE] for name in _NAMES if (text := headers.text(name)) is not None}
        except BadParameter:
            tenant_id, target = None, {}
        caller = g.caller
        entry = AuditEntry(
            actor=caller.name,
            action=f"{request.method} {request.path[:TARGET_SIZE]}",
            tenant_id=tenant_id,
            target=" ".join(f"{name}={text}" for name, text in target.items()),
            detail={
                "key": caller.key_id,
                "status": response.status_code,
                "req_id": str(g.get("request_id", "")),
                "from": str(request.remote_addr or ""),
            },
        )
        try:
            await table.add(entry)
        except StoreError as error:
            # What was done is done; the process's log has it at least.
            _log.error("audit_not_written", reason=str(error), actor=entry.actor, action=entry.action)
        return response
