# With several shards: the evidence of an evaluation, from that of its shards.


localrules:
    gather,


rule gather:
    input:
        sets=lambda wildcards: test_sets(EVALUATIONS[wildcards.evaluation]),
        components=lambda wildcards: weights(
            CONFIG.methods[wildcards.method].components
        ),
        rows=lambda wildcards: shard_files(
            wildcards.evaluation, wildcards.method, "parquet"
        ),
        records=lambda wildcards: shard_files(
            wildcards.evaluation, wildcards.method, "json"
        ),
    output:
        rows=f"{RESULTS}/evidence/{{evaluation}}/{{method}}.parquet",
        record=f"{RESULTS}/evidence/{{evaluation}}/{{method}}.json",
    log:
        f"{LOGS}/gather/{{evaluation}}/{{method}}.log",
    benchmark:
        f"{LOGS}/benchmarks/gather/{{evaluation}}/{{method}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        # shards are deleted once the evidence is written, so their settings must be known here
        settings=lambda wildcards: (
            EVALUATIONS[wildcards.evaluation]
            .settings(CONFIG, wildcards.method)
            .as_json()
        ),
    message:
        "Gathering the shards of {wildcards.evaluation} of {wildcards.method}"
    script:
        "../scripts/gather.py"
