"""Answers other than 2xx that a gateway gives itself. Each gateway has its own form for them."""

from __future__ import annotations

from aiohttp import web

RETRY_BUSY_S = 5


class Refused(Exception):
    """A request is not served. It is raised anywhere in a gateway and becomes the answer."""

    def response(self) -> web.Response:
        raise NotImplementedError


class JsonRefusal(Refused):
    """The GGUF gateway's form: an error object as OpenAI's API has it."""

    def __init__(
        self, status: int, message: str, kind: str, code: str | int, retry_after_s: int = 0
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "code": code}}
        self.headers = {"Retry-After": str(retry_after_s)} if retry_after_s else {}

    def response(self) -> web.Response:
        return web.json_response(self.body, status=self.status, headers=self.headers)


def queue_full() -> JsonRefusal:
    """The GGUF gateway's answer when its queue is full."""
    message = "Server busy, try again later"
    return JsonRefusal(503, message, "server_error", "queue_full", RETRY_BUSY_S)


class TextRefusal(Refused):
    """The fleet's form: plain text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text

    def response(self) -> web.Response:
        headers = {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}
        return web.Response(status=self.status, text=self.text, headers=headers)
