"""Settings that hold for all tests: no network, no quarrel about cores, no flaky deadlines."""

import os
import signal

# A shell that starts the tests in the background has them ignore Ctrl-C, as would what they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Before anything imports torch or a Hugging Face library; child processes inherit them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
_workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // _workers)))

from hypothesis import settings  # noqa: E402

settings.register_profile("tests", deadline=None, derandomize=True)
settings.load_profile("tests")
