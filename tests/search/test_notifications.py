"""Notifications to services on this machine, and secrecy of their addresses."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from apprise import NotifyType

from search.notifications import VARIABLE, Notifier, refuse_secrets, take_addresses
from spaces.errors import BadInputError
from tests.ports import free_port

TOKEN = "xoxb-t0ken"


class Service:
    """A webhook that answers with a status."""

    def __init__(self, status: int) -> None:
        self.told: list[dict[str, str]] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                service.told.append(json.loads(body))
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"json://me:{TOKEN}@127.0.0.1:{self.server.server_port}/{TOKEN}"


@pytest.fixture(params=[200])
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    service = Service(request.param)
    thread = threading.Thread(target=service.server.serve_forever)
    thread.start()
    yield service
    service.server.shutdown()
    thread.join()
    service.server.server_close()


def test_message_has_title_text_and_kind(service: Service) -> None:
    said: list[str] = []
    Notifier([service.address], said.append).send("a title", "# text", NotifyType.WARNING)
    assert said == []
    (message,) = service.told
    assert message["title"] == "a title"
    assert message["message"] == "# text"
    assert message["type"] == "warning"


def test_failed_service_does_not_block_the_others(service: Service) -> None:
    said: list[str] = []
    away = f"json://127.0.0.1:{free_port()}/{TOKEN}"
    notifier = Notifier([away, f"nonsense://{TOKEN}", service.address], said.append)
    notifier.send("a title", "text", NotifyType.INFO)
    assert len(service.told) == 1
    assert said == [
        "notification 1 of 3 (JSON) was not sent: the service is unreachable",
        "notification 2 of 3 was not sent: apprise does not support its address",
    ]


@pytest.mark.parametrize("service", [401, 500], indirect=True)
def test_failed_service_is_one_warning_without_its_address(
    service: Service, capfd: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    Notifier([service.address], said.append).send("a title", "text", NotifyType.FAILURE)
    (line,) = said
    assert line.startswith(
        "notification 1 of 1 (JSON) was not sent: the service answers with error"
    )
    printed = capfd.readouterr()
    assert TOKEN not in line + printed.out + printed.err


def test_repeated_address_is_notified_once(service: Service) -> None:
    notifier = Notifier([service.address], print)
    notifier.add([service.address])
    notifier.send("a title", "text", NotifyType.INFO)
    assert len(service.told) == 1


def test_addresses_are_removed_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, " json://a/b  mailto://c?to=d,e ")
    assert take_addresses() == ["json://a/b", "mailto://c?to=d,e"]
    assert VARIABLE not in os.environ
    assert take_addresses() == []


@pytest.mark.parametrize(
    "address",
    [
        f"json://me:{TOKEN}@example.com",
        f"mailto://me:{TOKEN}@example.com",
        "slack://TokenA123/TokenB123/TokenC1234567890123456789/#general",
        "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js",
    ],
)
def test_address_with_a_secret_is_refused_and_not_shown(address: str) -> None:
    with pytest.raises(BadInputError, match="holds a secret; set BORDERLINE_NOTIFY") as caught:
        refuse_secrets(["ntfy://our-nets", address])
    assert address not in repr(caught.value.args)
    assert TOKEN not in str(caught.value)


def test_address_without_secret_is_accepted() -> None:
    refuse_secrets(["ntfy://our-nets", "json://127.0.0.1:8000/nets"])


def test_invalid_address_is_refused_and_not_shown() -> None:
    with pytest.raises(
        BadInputError, match="apprise does not support one of the addresses"
    ) as caught:
        refuse_secrets([f"slcak://{TOKEN}"])
    assert TOKEN not in str(caught.value)
