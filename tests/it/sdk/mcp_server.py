"""A server made with the official MCP SDK, on the port given; every call of `search` and `slow` is counted."""

import socket
import sys

import uvicorn
from mcp.server import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types import ToolAnnotations

server = MCPServer("docs")
calls = {"search": 0}


@server.tool(annotations=ToolAnnotations(readOnlyHint=True))
def search(words: str) -> str:
    """Searches."""
    calls["search"] += 1
    return f"{words}: found {calls['search']}"


@server.tool()
def add(a: int, b: int) -> int:
    """Adds."""
    return a + b


@server.tool()
def fail() -> str:
    """Fails."""
    raise ValueError("on purpose")


@server.tool()
def remove(path: str) -> str:
    """Must never be reached."""
    raise SystemExit(path)


@server.resource("docs://readme")
def readme() -> str:
    """A resource."""
    return "read me"


class Guarded:
    """Lets in only who has the gateway's token."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            fields = dict(scope["headers"])
            assert fields.get(b"authorization") == b"Bearer server-token", fields
            assert b"cookie" not in fields, fields
        await self.app(scope, receive, send)


# The host that the gateway asks for is the port's own.
security = TransportSecuritySettings(enable_dns_rebinding_protection=False)
app = server.streamable_http_app(transport_security=security, json_response="json" in sys.argv[1:])
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
print("port", listener.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(Guarded(app), log_level="error")).run(sockets=[listener])
