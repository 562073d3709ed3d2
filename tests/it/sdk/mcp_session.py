"""A session with the official MCP SDK through the gateway at MCP_URL. Prints `all good` at the end."""

import asyncio
import os

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

url = os.environ["MCP_URL"]


async def session(mode: str) -> None:
    fields = {"Authorization": "Bearer client-secret", "Cookie": "client=secret"}
    async with httpx2.AsyncClient(headers=fields, timeout=20) as http:
        async with Client(streamable_http_client(url, http_client=http), mode=mode, read_timeout_seconds=20) as client:
            names = sorted(tool.name for tool in (await client.list_tools()).tools)
            assert names == ["add", "fail", "search"], names

            added = await client.call_tool("add", {"a": 2, "b": 3})
            assert not added.is_error and added.content[0].text == "5", added

            failed = await client.call_tool("fail", {})
            assert failed.is_error and "Error executing tool fail" in failed.content[0].text, failed

            # kept for a minute: the server counts one call for one question
            first = await client.call_tool("search", {"words": mode})
            again = await client.call_tool("search", {"words": mode})
            other = await client.call_tool("search", {"words": mode + "!"})
            assert first.content[0].text == again.content[0].text, (first, again)
            assert first.content[0].text.split()[-1] != other.content[0].text.split()[-1], (first, other)

            try:
                refused = await client.call_tool("remove", {"path": "/"})
                raise AssertionError(refused)
            except MCPError as e:
                assert "Unknown tool: remove" in str(e), e

            read = await client.read_resource("docs://readme")
            assert read.contents[0].text == "read me", read


async def main() -> None:
    await session("legacy")
    await session("2026-07-28")


asyncio.run(main())
print("all good")
