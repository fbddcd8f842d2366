# The locked environment and the workflow: docker build --tag oodcert . (docs/cluster.md)
FROM python:3.11.14-slim-bookworm

# git names the code's commit in every record; Triton compiles by gcc what a GPU runs in bfloat16
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc git libc6-dev \
    && rm -rf /var/lib/apt/lists/* \
    && git config --system --add safe.directory /oodcert \
    && useradd --create-home oodcert

WORKDIR /oodcert
COPY envs/requirements.lock envs/
RUN pip install --no-cache-dir --require-hashes --requirement envs/requirements.lock

COPY . .
RUN pip install --no-cache-dir --no-deps --no-build-isolation --editable .

# any user may run it, one without a home or a name as well
ENV HOME=/tmp USER=oodcert
USER oodcert
ENTRYPOINT ["snakemake"]
CMD ["--help"]
