# Serves an application package (a volume at /app) with the embedded engine; documents in /data.
#   docker build -t ranker .
#   docker run -p 8080:8080 -v "$PWD/app:/app:ro" -v ranker-data:/data ranker
# Not slim: the stemmer is C++ source, and is compiled here.
FROM python:3.11.13-bookworm AS build
WORKDIR /build
COPY pyproject.toml README.md LICENSE requirements.lock ./
COPY ranker ranker
# The lock pins every version; only what serving needs is installed, so no torch.
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --constraint requirements.lock ".[engine]"

FROM python:3.11.13-slim-bookworm
RUN useradd --system --uid 10001 --create-home ranker \
    && install --directory --owner=ranker /data
COPY --from=build /venv /venv
USER 10001
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1
VOLUME ["/app", "/data"]
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/state/v1/health', timeout=2)"]
ENTRYPOINT ["ranker", "serve", "/app", "--data", "/data", "--host", "0.0.0.0", "--port", "8080"]
