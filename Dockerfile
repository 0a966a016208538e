# docker build -t authapi .
# docker build --build-arg ARGON2=avx2 -t authapi .          password hashes are faster; needs CPUs with AVX2
# docker build --build-arg EXTRAS='[postgres]' -t authapi .  several nodes on a PostgreSQL server

FROM python:3.13-slim AS build
ARG ARGON2=any
ARG EXTRAS=
RUN python -m venv /opt/authapi
RUN if [ "$ARGON2" = avx2 ]; then \
        apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && \
        CFLAGS=-mavx2 /opt/authapi/bin/pip install --no-cache-dir \
            --no-binary argon2-cffi-bindings argon2-cffi-bindings; \
    fi
COPY . /src
RUN /opt/authapi/bin/pip install --no-cache-dir "/src$EXTRAS"

FROM python:3.13-slim
RUN groupadd --system --gid 10001 authapi && \
    useradd --system --uid 10001 --gid authapi --home-dir /var/lib/authapi --shell /usr/sbin/nologin authapi && \
    install -d -o authapi -g authapi -m 0700 /var/lib/authapi
COPY --from=build /opt/authapi /opt/authapi
ENV PATH=/opt/authapi/bin:$PATH AUTHAPI_HOST=0.0.0.0
USER 10001:10001
WORKDIR /var/lib/authapi
VOLUME /var/lib/authapi
EXPOSE 3001
# Without a session the service answers 401, without a thread or the database.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["python", "-c", "\
import http.client, os; \
service = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('AUTHAPI_PORT', 3001)), timeout=4); \
service.request('GET', '/user'); \
raise SystemExit(service.getresponse().status != 401)"]
CMD ["authapi", "serve"]
