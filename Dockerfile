FROM python:3.12-slim
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY nanoocr nanoocr
RUN pip install --no-cache-dir '.[serve]' --extra-index-url https://download.pytorch.org/whl/cpu \
    && useradd --system --uid 10001 nanoocr
USER 10001
WORKDIR /tmp
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["nanoocr", "serve", "--host=0.0.0.0"]
