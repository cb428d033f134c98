"""The actions, their parameters and their answers are those of Amazon's own model: see model_check.py."""

import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
REPOSITORY = HERE.parent.parent


def test_the_table_of_actions_is_amazons():
    build = ["cargo", "build", "--quiet", "--locked", "--package", "ec2", "--example", "model"]
    subprocess.run(build, check=True, cwd=REPOSITORY)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    example = target / "debug" / "examples" / "model"
    done = subprocess.run(
        [sys.executable, HERE / "model_check.py", example], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
