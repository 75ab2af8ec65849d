FROM python:3.12-slim
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY nanoocr nanoocr
# torch's builds for CPUs alone are a tenth of the size: name their index for pip here where there is no GPU,
# as in --build-arg PIP_OPTIONS="--extra-index-url=ADDRESS".
ARG PIP_OPTIONS=""
# hadolint ignore=DL3013
RUN pip install --no-cache-dir ${PIP_OPTIONS} '.[serve]' \
    && useradd --system --uid 10001 nanoocr
USER 10001
WORKDIR /tmp
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8000, timeout=4); \
c.request('GET', '/health'); exit(c.getresponse().status != 200)"]
ENTRYPOINT ["nanoocr", "serve", "--host=0.0.0.0"]
