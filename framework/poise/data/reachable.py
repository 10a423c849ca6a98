"""Whether a server can be reached, found out in seconds."""

import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from urllib.parse import urlsplit

SECONDS = 5.0


def why_unreachable(addresses: Sequence[str]) -> str:
    """Why none of these can be reached; "" where one answers, whatever it says. Takes at most 5 seconds for each."""
    reasons = []
    for address in addresses:
        answer: SimpleQueue[str] = SimpleQueue()
        # looking up a name knows no time limit
        threading.Thread(target=_ask, args=[address, answer], daemon=True).start()
        try:
            reason = answer.get(timeout=SECONDS)
        except Empty:
            reason = f"no answer within {SECONDS:g} seconds"
        if not reason:
            return ""
        reasons.append(f"{urlsplit(address).hostname}: {reason}")
    return ", ".join(reasons)


def _ask(address: str, answer: "SimpleQueue[str]") -> None:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=SECONDS):
            answer.put("")
    except urllib.error.HTTPError as error:
        error.close()
        answer.put("")
    except Exception as error:  # of a proxy's making, too
        answer.put(" ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__)
