"""`tracing.utils`: setting tracing up, asked of real HTTP servers on this machine."""

import base64
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import tracing.utils
from tracing import TracingConfig
from tracing.config import VARIABLES
from tracing.utils import print_configuration_help, setup_tracing, test_langfuse_connection
from tracing.utils.asking import Answer, ask
from tracing.utils.setup import main


class Langfuse(ThreadingHTTPServer):
    """Knows one pair of keys; answers as it is told."""

    daemon_threads = True
    health = 200
    projects = 200
    slow = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Questions)
        self.asked = []
        self.let_go = threading.Event()

    @property
    def config(self):
        return TracingConfig("sk", "pk", f"http://127.0.0.1:{self.server_port}/")


class Questions(BaseHTTPRequestHandler):
    def do_GET(self):
        keys = self.headers.get("Authorization")
        self.server.asked.append((self.path, keys))
        status = self.server.health
        if self.path == "/api/public/projects":
            status = self.server.projects
            if keys != "Basic " + base64.b64encode(b"pk:sk").decode():
                status = 401
        if self.server.slow:
            self.drip()
            return
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def drip(self):
        """Send a byte now and then, for ever."""
        self.send_response(200)
        self.end_headers()
        while not self.server.let_go.wait(0.01):
            try:
                self.wfile.write(b".")
            except OSError:
                return

    def log_message(self, *args):
        pass


@pytest.fixture
def langfuse():
    server = Langfuse()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.let_go.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def env(monkeypatch, tmp_path):
    """Set the variables of a config; forget what a `.env` has set."""
    monkeypatch.chdir(tmp_path)
    for variable in VARIABLES.values():
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)

    def put(config):
        monkeypatch.setenv("LANGFUSE_SECRET_KEY", config.langfuse_secret_key)
        monkeypatch.setenv("LANGFUSE_PUBLIC_KEY", config.langfuse_public_key)
        monkeypatch.setenv("LANGFUSE_HOST", config.langfuse_host)

    return put


def test_a_host_that_knows_the_keys(langfuse):
    """It is asked for its health without keys, then for the project with them."""
    assert test_langfuse_connection(langfuse.config) is True
    assert [path for path, _ in langfuse.asked] == ["/api/public/health", "/api/public/projects"]
    assert langfuse.asked[0][1] is None


def test_wrong_keys(langfuse, caplog):
    """401 is no connection; with `debug` the log says what to check."""
    config = TracingConfig("wrong", "pk", langfuse.config.langfuse_host, debug=True)

    assert test_langfuse_connection(config) is False
    assert "refuses the keys" in caplog.text
    assert "wrong" not in caplog.text


@pytest.mark.parametrize("status", [404, 500, 302])
def test_a_host_that_is_something_else_or_in_trouble(langfuse, status):
    """Any other answer is no connection; a redirect is not followed, the keys stay here."""
    langfuse.health = status

    assert test_langfuse_connection(langfuse.config) is False
    assert [path for path, _ in langfuse.asked] == ["/api/public/health"]


def test_nobody_there():
    """A refused connection is no connection."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = TracingConfig("sk", "pk", f"http://127.0.0.1:{port}")

    assert test_langfuse_connection(config) is False


def test_a_host_that_hangs():
    """One that takes the connection and says nothing is given up after the time."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        config = TracingConfig("sk", "pk", f"http://127.0.0.1:{silent.getsockname()[1]}")

        assert ask(config, timeout=0.05).status is None


def test_a_host_that_drips(langfuse):
    """Neither does one that sends a byte now and then hold anybody up."""
    langfuse.slow = True

    assert ask(langfuse.config, timeout=0.1) == Answer(None, "no full answer within 0.1 s")


@pytest.mark.parametrize("host", ["localhost:1", "file:///etc/passwd", "http://", "http://[::1"])
def test_a_host_that_is_no_address(host):
    """Nothing but http and https is opened, and nothing is raised."""
    assert test_langfuse_connection(TracingConfig("sk", "pk", host)) is False


def test_nobody_is_asked_without_keys(langfuse):
    """A config that is not complete is no connection."""
    assert test_langfuse_connection(TracingConfig(langfuse_host="http://h")) is False


def test_setup_gives_the_config(langfuse, env):
    """All right: the config, as the environment has it."""
    env(langfuse.config)

    assert setup_tracing() == langfuse.config


def test_setup_reads_a_file(langfuse, env, tmp_path):
    """The `.env` that is named; the one of the working directory without."""
    file = tmp_path / "other.env"
    host = langfuse.config.langfuse_host
    file.write_text(f"LANGFUSE_SECRET_KEY=sk\nLANGFUSE_PUBLIC_KEY=pk\nLANGFUSE_HOST={host}\n")

    assert setup_tracing(str(file)) == langfuse.config


def test_setup_says_what_is_missing(env):
    """The variables by name, and what to do."""
    with pytest.raises(RuntimeError, match=r"LANGFUSE_SECRET_KEY, .*HOST\. .*\.env file"):
        setup_tracing()


def test_setup_says_that_there_is_no_such_file(env, tmp_path):
    """A file that was named must be there."""
    with pytest.raises(RuntimeError, match="there is no file"):
        setup_tracing(tmp_path / "none.env")


def test_setup_says_which_variable_is_wrong(env, monkeypatch):
    """A value that cannot be is named."""
    monkeypatch.setenv("POCKETFLOW_TRACE_SAMPLE_RATE", "2")

    with pytest.raises(RuntimeError, match="POCKETFLOW_TRACE_SAMPLE_RATE"):
        setup_tracing()


@pytest.mark.parametrize(
    ("health", "projects", "words"),
    [
        (200, 403, "refuses the keys"),
        (404, 200, "no Langfuse server"),
        (503, 200, "in trouble"),
        (302, 200, "sends elsewhere"),
    ],
)
def test_setup_says_what_the_host_said(langfuse, env, health, projects, words):
    """And what to check then."""
    langfuse.health, langfuse.projects = health, projects
    env(langfuse.config)

    with pytest.raises(RuntimeError, match=words):
        setup_tracing()


def test_setup_says_that_nobody_answers(env):
    """The host by name, and why."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        env(TracingConfig("sk", "pk", f"http://127.0.0.1:{free.getsockname()[1]}"))

    with pytest.raises(RuntimeError, match=r"does not answer \(.*refused.*LANGFUSE_HOST"):
        setup_tracing()


def test_the_command_tests(langfuse, env, capsys):
    """`--test`: 0 and a word, or 1 and what to do."""
    env(langfuse.config)
    assert main(["--test"]) == 0
    assert "accepts the keys" in capsys.readouterr().out
    langfuse.projects = 401
    assert main(["--test"]) == 1
    assert "refuses the keys" in capsys.readouterr().err


def test_the_command_reads_a_file(env, tmp_path, capsys):
    """`--env-file`, which must be there."""
    assert main(["--test", "--env-file", str(tmp_path / "none")]) == 1
    assert "none" in capsys.readouterr().err


def test_the_command_helps(capsys):
    """`--help-config` lists variables; without anything it says what it can do."""
    assert main(["--help-config"]) == 0
    listed = capsys.readouterr().out
    print_configuration_help()
    assert capsys.readouterr().out == listed
    assert main([]) == 0
    assert "--test" in capsys.readouterr().out


def test_the_help_names_variables_that_exist(capsys):
    """Each variable it shows is one that is read, and the three of Langfuse are among them."""
    print_configuration_help()
    shown = {
        line.partition("=")[0].strip()
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("    ") and "=" in line
    }

    assert shown <= set(VARIABLES.values())
    assert {"LANGFUSE_SECRET_KEY", "LANGFUSE_PUBLIC_KEY", "LANGFUSE_HOST"} <= shown


def test_pytest_does_not_take_the_function_for_a_test():
    """It is imported here, and not collected."""
    assert test_langfuse_connection.__test__ is False
    assert tracing.utils.test_langfuse_connection is test_langfuse_connection


def test_the_module_runs_as_a_command(child_env, tmp_path):
    """`python -m tracing.utils.setup` is the command."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tracing.utils.setup", "--help-config"],
        env=child_env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    assert "LANGFUSE_HOST" in done.stdout
    assert done.stderr == ""
