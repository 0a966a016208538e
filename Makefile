# Each target needs the virtual environment that README's second command makes.
BIN = .venv/bin
# Tests wait for processes and sockets more than they compute: four at once suit two CPUs.
TESTS = -n 4
# The lock files hold for every Python and platform that the service runs on. Versions stay until `make lock LOCKED=--upgrade`.
LOCK = $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --custom-compile-command 'make lock' $(LOCKED)

run:
	$(BIN)/python run.py

test:
	$(BIN)/pytest $(TESTS)

check:
	$(BIN)/pip install -q -e '.[dev]' && $(MAKE) lint covered

lint:
	$(BIN)/ruff format --check && $(BIN)/ruff check && $(BIN)/mypy

covered:
	$(BIN)/coverage erase && $(BIN)/coverage run -m pytest -q $(TESTS) && $(BIN)/coverage combine -q && $(BIN)/coverage report

# The types of the JavaScript client need what `make clients` installs.
document:
	PYTHONPATH=. $(BIN)/python tools/api_document.py
	if [ -d .clients/node_modules ]; then .clients/node_modules/.bin/openapi-typescript docs/openapi.json --default-non-nullable false -o clients/js/api.d.ts; else echo "clients/js/api.d.ts is as it was: run \`make clients\` first" >&2; fi

# What makes clients of the API document and fuzzes the service by it. They have an environment of their own.
clients:
	rm -rf .clients && python3 -m venv .clients && .clients/bin/pip install -q openapi-python-client==0.29.1 schemathesis==4.32.5 && (! command -v npm >/dev/null || npm install --prefix .clients --silent --no-audit --no-fund --no-package-lock openapi-fetch@0.17.0 openapi-typescript@7.13.0 typescript@5.9.3 vite@7.3.8)

# What tests/test_javascript_client_hooks.py runs, beside what `make clients` installed.
frameworks:
	! command -v npm >/dev/null || npm install --prefix .clients --silent --no-audit --no-fund --no-package-lock esbuild@0.25.12 htmx-ext-json-enc@2.0.3 htmx.org@2.0.11 react@19.3.1 react-dom@19.3.1 solid-js@1.9.19 svelte@5.57.3 vue@3.5.45

bench:
	$(BIN)/python benchmarks/bench.py && $(BIN)/python benchmarks/size.py && $(BIN)/python benchmarks/enumeration.py && $(BIN)/python benchmarks/enumeration_mail.py && $(BIN)/python benchmarks/compare.py

faults:
	$(BIN)/python -m faults.crash && ! $(BIN)/python -m faults.crash --spoilt --rounds 3 && $(BIN)/python -m faults.outbox && ! $(BIN)/python -m faults.outbox --spoilt --rounds 2 && $(BIN)/python -m faults.outbox_statements && ! $(BIN)/python -m faults.outbox_statements --spoilt && STATEMENT_KILLS=all $(BIN)/pytest -q tests/test_statement_kills.py && MODEL_EXAMPLES=1000 $(BIN)/pytest -q tests/test_model.py && DIFFERENTIAL_CALLS=50000 $(BIN)/pytest -q tests/test_differential.py && $(BIN)/python -m faults.powercut && ! $(BIN)/python -m faults.powercut --synchronous NORMAL --cuts 200 && $(BIN)/python -m faults.mutations && $(BIN)/python -m faults.slow && $(BIN)/python -m faults.cost && ! $(BIN)/python -m faults.cost --spoilt --rounds 1 --places '^Cookie of GET' && $(BIN)/python -m faults.memory && $(MAKE) postgresql-faults

postgresql-faults:
	$(BIN)/python -m faults.outbox --postgresql --rounds 5 && $(BIN)/python -m faults.outbox_statements --postgresql && $(BIN)/python -m faults.away && ! $(BIN)/python -m faults.away --spoilt --rounds 1 && $(BIN)/python -m faults.server_kills && ! $(BIN)/python -m faults.server_kills --control --rounds 2 && $(BIN)/python -m faults.several_nodes && ! $(BIN)/python -m faults.several_nodes --control

soak:
	$(BIN)/python -m faults.soak

mutants:
	$(BIN)/pip install -q -e '.[mutants]' && $(BIN)/python -m faults.mutants

lock:
	$(BIN)/pip install -q -e '.[release]' && $(LOCK) setup.cfg -o requirements.lock && $(LOCK) setup.cfg --extra import --extra metrics --extra postgres -c requirements.lock -o deploy/extras.lock && $(LOCK) deploy/build.in -c requirements.lock -o deploy/build.lock

audit:
	$(BIN)/pip install -q -e '.[release]' && $(BIN)/pip-audit --strict --disable-pip --require-hashes -r deploy/extras.lock

image:
	docker build -f deploy/Dockerfile --build-arg EXTRAS=$(EXTRAS) --build-arg VERSION=$(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' authapi/__init__.py) --build-arg REVISION=$(shell git rev-parse HEAD) -t authapi .

# A new environment with the tools of a build, pinned by their hashes.
TOOLS = rm -rf .tools && python3 -m venv .tools && .tools/bin/pip install -q --require-hashes --no-deps -r deploy/build.lock

dist:
	rm -rf dist && $(TOOLS) && .tools/bin/python -m build --no-isolation && $(BIN)/pip install -q -e '.[release]' && $(BIN)/twine check --strict dist/*; status=$$?; rm -rf .tools; exit $$status

sbom:
	$(TOOLS) && python3 -m venv --without-pip .sbom && .tools/bin/pip -q --python .sbom/bin/python install --require-hashes -r requirements.lock && .tools/bin/pip wheel -q --no-deps --no-build-isolation -w .sbom . && .tools/bin/pip -q --python .sbom/bin/python install --no-deps .sbom/*.whl && .tools/bin/cyclonedx-py environment --output-reproducible -o sbom.json .sbom/bin/python; status=$$?; rm -rf .sbom .tools; exit $$status

.PHONY: run test check lint covered document clients frameworks bench faults postgresql-faults soak mutants lock audit image dist sbom
