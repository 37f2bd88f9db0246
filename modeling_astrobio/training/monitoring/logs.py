"""The log of a run: rotating files, and a console that leaves the progress bar whole; neither shows a secret."""

import contextlib
import logging
import sys
import time
import warnings
from collections.abc import Iterator
from logging.handlers import RotatingFileHandler
from pathlib import Path

import colorlog
from tqdm import tqdm

from .secrets import redact


__all__ = ["LOGGER_NAME", "run_logging"]


LOGGER_NAME = "modeling_astrobio"
# Libraries that print warnings of their own, and those of the module `warnings`.
_OTHER_LOGGERS = ("transformers", "accelerate", "datasets", "py.warnings")
_FILE_BYTES = 10_000_000
_FILES = 5
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class _Redacting(logging.Filter):
    """Takes secrets out of a record, so that not even a handler's complaint about it shows them."""

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            message = record.getMessage()
        except Exception:
            # Arguments that do not fit the message must not end a training.
            message = f"{record.msg!r} % {record.args!r}"
        record.msg, record.args = redact(message), None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = redact(record.exc_text)
        if record.stack_info:
            record.stack_info = redact(record.stack_info)
        return True


class _LogFile(RotatingFileHandler):
    """Says once, in one line, that the file cannot be written: on a full disk every record fails."""

    def __init__(self, path: Path, max_bytes: int):
        super().__init__(path, maxBytes=max_bytes, backupCount=_FILES, encoding="utf-8", errors="backslashreplace")
        self.failed = False

    def handleError(self, record: logging.LogRecord) -> None:
        if not self.failed:
            self.failed = True
            reason = redact(f"{sys.exc_info()[1]}")
            tqdm.write(f"{self.baseFilename} cannot be written, lines are lost: {reason}", file=sys.stderr)

    def close(self) -> None:
        try:
            super().close()
        except OSError:
            # What could not be written is tried again, and fails again.
            self.handleError(logging.makeLogRecord({}))


class _AboveTheBar(logging.Handler):
    """Writes lines to the standard error stream above the progress bars."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            tqdm.write(self.format(record), file=sys.stderr)
        except Exception:
            self.handleError(record)


def _console(rank: int) -> logging.Handler:
    handler = _AboveTheBar(logging.INFO if rank == 0 else logging.WARNING)
    # Colours where the stream is a terminal, unless NO_COLOR is set; everywhere with FORCE_COLOR.
    formatter = colorlog.ColoredFormatter(
        "%(log_color)s%(asctime)s %(levelname)s%(reset)s %(message)s", "%H:%M:%S", stream=sys.stderr
    )
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    return handler


def _file(run_dir: Path, rank: int, max_bytes: int) -> logging.Handler:
    path = Path(run_dir) / "logs" / ("run.log" if rank == 0 else f"run-rank{rank}.log")
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = _LogFile(path, max_bytes)
    handler.setLevel(logging.INFO)
    formatter = logging.Formatter(_FORMAT, "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    return handler


@contextlib.contextmanager
def run_logging(run_dir: Path, rank: int, max_bytes: int = _FILE_BYTES) -> Iterator[None]:
    """Send what the block logs to `logs/run.log` in the run's folder and to the console, in UTC.

    That is the logger `modeling_astrobio` from INFO on, and the warnings of transformers, accelerate, datasets and the
    module `warnings`. Handlers that these loggers had are set aside until the block ends. An exception that leaves the
    block is written to the file.

    Args:
        run_dir: Folder of the run.
        rank: Of this process; ranks other than 0 write `run-rank<N>.log`, and only warnings to the console.
        max_bytes: Size at which a new file begins; five older ones are kept.
    """
    handlers = [_file(run_dir, rank, max_bytes), _console(rank)]
    for handler in handlers:
        handler.addFilter(_Redacting())
    loggers = [logging.getLogger(name) for name in (LOGGER_NAME, *_OTHER_LOGGERS)]
    before = [(logger.handlers[:], logger.propagate, logger.level) for logger in loggers]
    show_warning = warnings.showwarning
    for logger in loggers:
        logger.handlers, logger.propagate = handlers[:], False
    loggers[0].setLevel(logging.INFO)
    logging.captureWarnings(True)
    captured_here = warnings.showwarning is not show_warning
    try:
        yield
    except BaseException as error:
        text = f"the run ended with {type(error).__name__}"
        record = loggers[0].makeRecord(LOGGER_NAME, logging.ERROR, __file__, 0, text, (), sys.exc_info())
        handlers[0].handle(record)
        raise
    finally:
        if captured_here:
            logging.captureWarnings(False)
        for logger, (old_handlers, propagate, level) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = old_handlers, propagate
            logger.setLevel(level)
        for handler in handlers:
            handler.close()
