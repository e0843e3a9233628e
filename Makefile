# The two commands that do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint check verify docs lock clean

demo: $(READY)
	$(BIN)/python pipelines/quickstart.py --work work/quickstart --port $${PORT:-8080}

# A file of tests stays in one process, for its servers; a thread each, or they wait for each other.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: $(READY)
	$(BIN)/ranker package --out vespa_app --check

# The checks with Vespa's own Java code (need a JDK and Maven), the front door beside the real one, and
# Vespa's own clients against the embedded engine.  -k also takes markers, so one run prints all
# figures at its end.
verify: $(READY)
	$(BIN)/python -m pytest -rs \
		-k "java or test_front_door or test_vespa or test_engine_deploy"

# The pages are in build/docs; a broken link or reference is an error.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# uv installs the few gigabytes of torch in seconds where pip takes minutes.
$(READY): pyproject.toml requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	touch $@

lock:
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header \
		--no-annotate --no-emit-index-url --extra dev pyproject.toml -o requirements.lock

clean:
	rm -rf $(VENV) work build .pytest_cache .mypy_cache .ruff_cache
