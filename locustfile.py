"""The load of benchmark.py from several machines, with Locust's master, workers and web page.

Each user of Locust has one streamed chat completion in flight, and sends the next one when it has
ended. Times are taken at the wire, as by benchmark.py. The master saves
results/inference_c<USERS>.json, which report.py reads like any other.

PASS: every request succeeded, every --slo was kept, and no worker was lost.
Cost: as many answers of up to --max-tokens as the users get until the run time is over, after a
warm-up answer for each user.

Examples:
    # one machine, two processes: 64 users for a minute, without the web page
    locust -f locustfile.py --headless --processes 2 -u 64 -r 64 -t 1m --host https://host:8000
    # several machines: the master, which waits for two workers
    locust -f locustfile.py --master --expect-workers 2 --host https://host:8000
    # a worker; its key comes from its own INFERENCE_API_KEY
    locust -f locustfile.py --worker --master-host 10.0.0.1
    # a load shape: 8 users, then 32, then 8 again
    locust -f locustfile.py --headless --stages "8:30s 32:1m 8:30s" --slo ttft_p95=500ms
"""

from __future__ import annotations

from livecheck.core.interruption import Terminated, leave

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # until Locust knows us, Ctrl-C ends the process with one line, whatever is being imported
    signal.signal(signal.SIGINT, lambda number, _: leave(number))

import argparse
import contextlib
import sys
from typing import Any

import gevent
from gevent import get_hub
from locust import User, constant, events, task
from locust.exception import StopUser
from locust.runners import LocalRunner, WorkerRunner

from common import GATEWAY, Parser, new_parser, whole_number
from livecheck.core.checks import Exit
from livecheck.core.options import option_type
from livecheck.core.settings import read_settings
from livecheck.load import gevent_selector, locust_master, locust_worker, stages
from livecheck.load.locust_master import FINISH, MESSAGE, LocustRun, Master
from livecheck.wire import metrics

CHECKS = ("workers", "requests", "stream", "pacing", "tokens", "client", "slo")
PROMPT = "Write a short poem about the sea"
# Of a test: not an option, but sent to the workers as one.
TEST, USERS = "live_checks_test", "live_checks_users"
# What Locust's own parser is told of our options; `settings_parser` says what they mean.
TEXTS = ("model", "prompt", "stages", "results", "ca_file")
NUMBERS = ("max_tokens", "warmup", "timeout")
FLAGS = ("same_prompt", "no_verify_ssl", "strict")


def settings_parser() -> Parser:
    """Our own options, as the other commands have them. Locust's parser takes them from here."""
    parser = new_parser(__file__, __doc__, GATEWAY, CHECKS)
    add = parser.add_argument_group("what to measure").add_argument
    add("--model", metavar="NAME", help="model to ask for (default: the first listed for chat)")
    add("--prompt", default=PROMPT, help="what to ask (default: %(default)s)")
    tokens = "longest answer, in tokens (default %(default)s)"
    add("--max-tokens", type=whole_number(1), default=128, metavar="N", help=tokens)
    warmup = "1: a warm-up request for each user; 0: none (default %(default)s)"
    add("--warmup", type=whole_number(0, 1), default=1, metavar="N", help=warmup)
    same = "no unique line in prompts: use the prompt cache"
    add("--same-prompt", action="store_true", help=same)
    bound = "bound to keep, as in ttft_p50=500ms (repeatable)"
    objective = option_type(metrics.parse_objective)
    add("--slo", type=objective, action="append", default=[], metavar="NAME=VALUE", help=bound)
    shape = 'load shape: USERS:DURATION after each other, as in "8:30s 32:1m"'
    parse = option_type(stages.parse_stages)
    add("--stages", type=parse, default=[], metavar="STAGES", help=shape)
    return parser


@events.init_command_line_parser.add_listener
def add_options(parser: Any) -> None:
    """Our options beside Locust's own. Their texts are checked when a test starts, and before: a
    value may also come from the web page."""
    add = parser.add_argument
    for action in settings_parser()._actions:
        name = action.option_strings[-1] if action.option_strings else ""
        if action.dest in FLAGS:
            add(name, action="store_true", help=action.help)
        elif action.dest == "slo":
            add(name, action="append", help=action.help)  # no list: the page cannot fill it
        elif action.dest in NUMBERS:
            kind = float if action.dest == "timeout" else int
            add(name, type=kind, default=action.default, help=action.help)
        elif action.dest in TEXTS:
            default = str(action.default) if action.default else ""
            add(name, default=default, help=action.help)
    key = "key of the deployment, of this process alone (or INFERENCE_API_KEY)"
    add("--api-key", "--token", help=key, include_in_web_ui=False)


class Connection:
    """What this process is in Locust, and the test that runs."""

    def __init__(self, environment: Any):
        self.environment, options = environment, environment.parsed_options
        # Locust sends all options to the workers, and shows them: not this one
        self.token: str | None = vars(options).pop("api_key", None)
        self.is_worker = isinstance(environment.runner, WorkerRunner)
        self.master = None if self.is_worker else Master(environment)
        self.worker: locust_worker.Worker | None = None
        environment.host = environment.host or read_settings()("INFERENCE_URL")
        if not self.is_worker and options.headless:
            self.settings()  # a mistake ends the process before anything is sent
        if not self.is_worker and options.stages:
            rate = options.spawn_rate
            parsed = stages.parse_stages(options.stages)
            environment.shape_class = locust_master.StagesShape(parsed, rate)
            environment.shape_class.runner = environment.runner

    def settings(self) -> argparse.Namespace:
        """Our settings, from Locust's options. SystemExit (2) with one line for a mistake."""
        options, words = self.environment.parsed_options, []
        for name in (*TEXTS, *NUMBERS):
            if (value := getattr(options, name)) not in (None, ""):
                words.append(f"--{name.replace('_', '-')}={value}")
        words += [f"--{name.replace('_', '-')}" for name in FLAGS if getattr(options, name)]
        bounds = options.slo or []  # one text when it comes from the web page
        bounds = bounds.split() if isinstance(bounds, str) else bounds
        words += [f"--slo={each}" for each in bounds]
        if self.environment.host:
            words.append(f"--url={self.environment.host}")
        args: argparse.Namespace = settings_parser().parse_args(words)
        args.token, args.typed = self.token, locust_master.typed_words()
        most = max((stage.users for stage in args.stages), default=options.num_users or 1)
        args.concurrency = [getattr(options, USERS, None) or most]
        return args

    def start(self) -> None:
        """A test starts. A mistake in a value of the web page ends it at once."""
        try:
            self._start()
        except SystemExit:
            self.worker = None
            if self.environment.parsed_options.headless:
                raise
            if not self.is_worker:
                gevent.spawn(self.environment.runner.stop)

    def _start(self) -> None:
        options = self.environment.parsed_options
        if self.master:
            setattr(options, USERS, None)
            args = self.settings()
            self.master.begin(LocustRun(args))
            setattr(options, TEST, self.master.test)
            setattr(options, USERS, args.concurrency[0])
        if self.is_worker or isinstance(self.environment.runner, LocalRunner):
            args = self.settings()
            locust_worker.settings_of_worker(args)
            run, test = LocustRun(args), getattr(options, TEST)
            self.worker = locust_worker.begin_worker(self.environment, run, self.send, test)

    @property
    def has_begun(self) -> bool:
        """Whether there was a test, also one that is over."""
        return bool(self.master.test if self.master else self.worker)

    def send(self, message: dict[str, Any]) -> None:
        """From a worker to the master, which may be this process."""
        if self.master:
            self.master.take("local", message)
        else:
            self.environment.runner.send_message(MESSAGE, message)

    def hear(self, message: Any) -> None:
        """At the master, from a worker."""
        if self.master and isinstance(message.data, dict):
            self.master.take(message.node_id, message.data)

    def stop(self) -> None:
        """All users of this process are gone; the master asks the workers for what they have."""
        if self.worker:
            self.worker.finish()
        if self.master:
            self.master.finish()

    def quit(self) -> None:
        """The process ends: a test that still runs is stopped, and saved."""
        runner = self.environment.runner
        if not self.master:
            runner.stop()
            self.stop()  # the master may have asked for the same: wait until it is done
            self.environment.process_exit_code = int(Exit.OK)
            return
        self.master.end_test()
        self.environment.process_exit_code = int(self.master.exit_code)


def of(environment: Any) -> Connection:
    found: Connection = environment.live_checks
    return found


@events.init.add_listener
def connect(environment: Any, runner: Any, **_: Any) -> None:
    gevent_selector.install()
    environment.live_checks = here = Connection(environment)
    handle_signals(here)
    if here.is_worker:
        runner.register_message(FINISH, lambda environment, msg, **_: environment.runner.stop())
    elif not isinstance(runner, LocalRunner):
        runner.register_message(MESSAGE, lambda environment, msg, **_: here.hear(msg))
    if here.master:
        environment.events.spawning_complete.add_listener(here.master.note_users)
    environment.events.quitting.add_listener(lambda environment, **_: here.quit())


def handle_signals(here: Connection) -> None:
    """Ctrl-C ends Locust as usual, but never in the middle of our own work: gevent passes it to the
    main greenlet. That a test was interrupted is noted first. Before the first test Locust does not
    expect it: there it ends the process, and Locust's own clearing up stops its workers."""

    def end(error: BaseException) -> None:
        get_hub().loop.run_callback(get_hub().parent.throw, error)

    def leave_worker() -> None:
        with contextlib.suppress(Exception):  # the master may not be there
            here.environment.runner.quit()  # Locust ends the process then, and the master knows

    def interrupt() -> None:
        if here.master:
            here.master.note_signal(KeyboardInterrupt)
        if here.is_worker and not here.has_begun:
            gevent.spawn(leave_worker)
        elif not here.has_begun and here.environment.parsed_options.headless:
            print("locust: interrupted before the test began", file=sys.stderr)
            end(SystemExit(int(Exit.INTERRUPTED)))
        else:
            end(KeyboardInterrupt())

    def terminate() -> None:
        if here.master:
            here.master.note_signal(Terminated)

    gevent.signal_handler(signal.SIGINT, interrupt)
    gevent.signal_handler(signal.SIGTERM, terminate)


@events.test_start.add_listener
def start(environment: Any, **_: Any) -> None:
    of(environment).start()


@events.test_stop.add_listener
def stop(environment: Any, **_: Any) -> None:
    of(environment).stop()


class InferenceUser(User):
    """One request in flight, the next one as soon as it has ended: a closed loop."""

    wait_time = constant(0)
    ready_ns: int | None = None

    def on_start(self) -> None:
        self.worker = of(self.environment).worker
        if self.worker and self.worker.is_asking and self.worker.run.args.warmup:
            with contextlib.suppress(StopUser):  # Locust knows it of tasks alone
                self.worker.ask(is_warmup=True)

    @task
    def ask(self) -> None:
        if self.worker is None:
            raise StopUser()
        self.ready_ns = self.worker.ask(self.ready_ns)
