"""The authenticator for development, as BifroMQ has it: everybody is who he says he is."""

from rookery.core.events import ConnectRequested

from .authenticator import Admitted, Decision

DEFAULT_TENANT = "DevOnly"
DEFAULT_USER = "DevUser"
REMEMBER_S = 86_400.0  # It never changes its mind.


class DevelopmentAuthenticator:
    """Admits every client; its username says as whom, its password does not matter.

        tenant/user       user of tenant
        any other name    that user of tenant DevOnly
        none or empty     DevUser of DevOnly

    More than one slash, or nothing on one side of it, makes it any other name. Where the listener has a tenant, that
    stands for DevOnly.
    """

    def decide(self, request: ConnectRequested) -> Decision:
        """See the class."""
        username = request.tenant_and_user
        if not username:
            return _admitted(request.tenant_id or DEFAULT_TENANT, DEFAULT_USER)
        tenant_id, _, user_id = username.partition("/")
        if tenant_id and user_id and "/" not in user_id:
            return _admitted(tenant_id, user_id)
        return _admitted(DEFAULT_TENANT, username)

    async def authenticate(self, request: ConnectRequested) -> Decision:
        """The same decision; admission asks for decide, which costs no task."""
        return self.decide(request)


def _admitted(tenant_id: str, user_id: str) -> Admitted:
    return Admitted(tenant_id, user_id, remember_s=REMEMBER_S)
