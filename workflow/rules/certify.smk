# l2 certificates by randomised smoothing: of OOD scores, and of ID labels.


rule certify_l2:
    input:
        sets=[ID_TEST, *OOD_TESTS],
        parts=method_weights,
        against=id_shards,
    output:
        **evaluated_files("certify_l2"),
    log:
        f"{LOGS}/{evaluated_name('certify_l2')}.log",
    benchmark:
        f"{LOGS}/benchmarks/{evaluated_name('certify_l2')}.tsv"
    priority: 1  # the longest jobs first
    conda:
        ENVIRONMENT
    threads: config["threads"]
    resources:
        mem_mb=growing(2000 + CUDA_MB),
        runtime=growing(1440),
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
        **evaluated_files("certify_id"),
    log:
        f"{LOGS}/{evaluated_name('certify_id')}.log",
    benchmark:
        f"{LOGS}/benchmarks/{evaluated_name('certify_id')}.tsv"
    conda:
        ENVIRONMENT
    threads: config["threads"]
    resources:
        mem_mb=growing(2000 + CUDA_MB),
        runtime=growing(1440),
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
