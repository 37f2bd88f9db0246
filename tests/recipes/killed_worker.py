"""recipes/train_llm.py in a process that notes what each step learns from, and that may be killed at any moment.

    killed_worker.py FOLDER RANK ACTION SECONDS ARGUMENTS...

After SECONDS of training, the process of RANK does ACTION: "kill" or "stop", which are signals that no program can
handle, or "never".
"""

import hashlib
import os
import signal
import sys
import threading
import time
from pathlib import Path


sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "recipes"))

import train_llm


FOLDER, RANK, ACTION, SECONDS = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], float(sys.argv[4])
MY_RANK = int(os.environ.get("RANK", "0"))


def append(name: str, text: str) -> None:
    with (FOLDER / name).open("a", encoding="utf-8") as file:
        file.write(text)


class NotingTrainer(train_llm.AstroTrainer):
    def train(self, *args, **kwargs):
        started = time.monotonic()
        append("began.txt", f"{os.environ.get('WORLD_SIZE', '1')}\n")
        if ACTION != "never" and MY_RANK == RANK:
            number = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}[ACTION]
            threading.Timer(SECONDS, os.kill, (os.getpid(), number)).start()
        try:
            return super().train(*args, **kwargs)
        finally:
            append("seconds.txt", f"{time.monotonic() - started}\n")

    def training_step(self, model, inputs, num_items_in_batch=None):
        lines = [
            f"{self.state.global_step + 1} {hashlib.sha256(row.numpy().tobytes()).hexdigest()}\n"
            for row, labels in zip(inputs["input_ids"], inputs["labels"], strict=True)
            # Rows that fill up the last step have nothing to learn.
            if (labels != -100).any()
        ]
        append(f"rows-{os.getpid()}.txt", "".join(lines))
        return super().training_step(model, inputs, num_items_in_batch)


train_llm.AstroTrainer = NotingTrainer
sys.exit(train_llm.main(sys.argv[5:]))
