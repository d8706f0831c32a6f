"""``python -m sb3_mdpo.lab.study.parent_watchdog COMMAND ...``: a command that ends with its parent process.

Its standard input is a pipe that the runner of a study holds open. If it closes, or the runner dies, the command is
terminated. Imports only the standard library, as there is a watchdog beside every run.
"""

import os
import subprocess
import sys
import threading


def main() -> None:
    """Run the command in the arguments until it ends, or until standard input does."""
    process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)

    def watch() -> None:
        while os.read(0, 1):  # not sys.stdin, whose lock a thread must not hold when Python exits
            pass
        process.terminate()

    threading.Thread(target=watch, daemon=True).start()
    code = process.wait()
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
