# Every target makes its own .venv from the hash-pinned requirements; nothing has to run before it.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check quick faults crashes chaos mutants format bench lock clean

demo: .venv/.installed
	$(BIN)/dispatcher demo

test: check
check: .venv/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/deptry .
	$(BIN)/pytest -n 2 --dist worksteal --ignore=tests/faults

# The inner loop, at most a minute on two idle cores: decisions, guards, settings, telemetry, and the outbox's statements.
QUICK := tests/architecture tests/config tests/decisions tests/mutants tests/telemetry tests/claim tests/wakeup \
  tests/model/test_store_methods.py \
  $(filter-out %_fair_share.py %_claim_sizes.py,$(wildcard tests/postgres/test_outbox_*.py))
quick: .venv/.installed
	$(BIN)/pytest -q -n 2 --dist worksteal -m "not slow" $(QUICK)

# Faults on purpose, each of them with its number in docs/faults.md. They mostly wait, so four at a time.
faults: .venv/.installed
	$(BIN)/pytest -n 4 --dist worksteal tests/faults

# A kill at each of twelve named points with SEEDS seeds (20); POINT=start-acked SEED=7 plays one round again.
crashes: .venv/.installed
	$(BIN)/python -m tests.faults.crash_rounds

# Thousands of rows and a random fault every few seconds, about ten minutes; SEED repeats a run.
chaos: .venv/.installed
	$(BIN)/python -m tests.chaos --seed "$(SEED)" \
	  --rows $(or $(ROWS),20000) --faults $(or $(FAULTS),110) --pace $(or $(PACE),3-6) $(if $(RESULTS),--results "$(RESULTS)")

# Bugs planted one by one in a copy of the tree; each has to be caught. ONLY plants those whose name contains it.
mutants: .venv/.installed
	$(BIN)/python -m tests.mutants --only "$(ONLY)"

format: .venv/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# AGAINST=REV measures the working tree beside that commit, in ROUNDS pairs.
bench: .venv/.installed
	$(BIN)/python -m bench $(if $(AGAINST),--against "$(AGAINST)") $(if $(ROUNDS),--rounds "$(ROUNDS)") \
	  $(if $(RECORD),--record)

# Compiles the pins again from pyproject.toml. Hashes only; no package index is named.
lock: .venv/.installed
	$(BIN)/uv pip compile pyproject.toml -q --universal --generate-hashes --no-emit-index-url --upgrade \
	  --custom-compile-command 'make lock' -o requirements.txt
	$(BIN)/uv pip compile pyproject.toml -q --universal --generate-hashes --no-emit-index-url --upgrade \
	  --extra dev --group test --group bench --group build \
	  --constraint requirements.txt --custom-compile-command 'make lock' -o requirements-dev.txt

.venv/.installed: requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; say which with: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

clean:
	rm -rf .venv .dispatcher
