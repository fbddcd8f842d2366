# l2 certificates by randomised smoothing: of OOD scores, and of ID labels.


rule certify_l2:
    input:
        sets=[ID_TEST, *OOD_TESTS],
        parts=method_weights,
    output:
        rows=f"{RESULTS}/evidence/certify_l2/{{method}}.parquet",
        record=f"{RESULTS}/evidence/certify_l2/{{method}}.json",
    log:
        f"{LOGS}/certify_l2/{{method}}.log",
    benchmark:
        f"{LOGS}/benchmarks/certify_l2/{{method}}.tsv"
    priority: 1  # the longest jobs first
    conda:
        ENVIRONMENT
    threads: config["threads"]
    resources:
        mem_mb=2000,
        runtime=1440,
        gpu=GPU,
    params:
        **EVALUATION_JOB,
        **EVALUATION["certify_l2"],
        composition=composition,
        networks=method_networks,
    message:
        "Certifying the OOD score of {wildcards.method} in l2 balls"
    script:
        "../scripts/certify_l2.py"


rule certify_id:
    input:
        sets=[ID_TEST],
        parts=method_weights,
    output:
        rows=f"{RESULTS}/evidence/certify_id/{{method}}.parquet",
        record=f"{RESULTS}/evidence/certify_id/{{method}}.json",
    log:
        f"{LOGS}/certify_id/{{method}}.log",
    benchmark:
        f"{LOGS}/benchmarks/certify_id/{{method}}.tsv"
    conda:
        ENVIRONMENT
    threads: config["threads"]
    resources:
        mem_mb=2000,
        runtime=1440,
        gpu=GPU,
    params:
        **EVALUATION_JOB,
        **EVALUATION["certify_id"],
        composition=composition,
        networks=method_networks,
    message:
        "Certifying the labels of {wildcards.method} in l2 balls"
    script:
        "../scripts/certify_id.py"
