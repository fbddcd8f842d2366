# l2 certificates by randomised smoothing: of OOD scores, and of ID labels.
# The methods of TOGETHER have a job of their own, in which they share the pass through the denoiser.
ALONE = (
    "|".join(method for method in config["methods"] if method not in TOGETHER) or "(?!)"
)


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
    wildcard_constraints:
        method=ALONE,
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
        method_spec=method_spec,
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
    wildcard_constraints:
        method=ALONE,
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
        method_spec=method_spec,
        networks=method_networks,
    message:
        "Certifying the labels of {wildcards.method} in l2 balls"
    script:
        "../scripts/certify_id.py"


if TOGETHER:
    together_names = " and ".join(TOGETHER)
    together_weights = weights(
        dict.fromkeys(
            part for method in TOGETHER for part in components_of(config["methods"][method])
        )
    )
    TOGETHER_JOB = dict(
        method_spec={method: config["methods"][method] for method in TOGETHER},
        networks={
            method: networks(components_of(config["methods"][method])) for method in TOGETHER
        },
    )

    use rule certify_l2 as certify_l2_together with:
        input:
            sets=[ID_TEST, *OOD_TESTS],
            parts=together_weights,
            against=id_shards,
        output:
            **files_together("certify_l2"),
        log:
            f"{LOGS}/{evaluated_name('certify_l2', '_together')}.log",
        benchmark:
            f"{LOGS}/benchmarks/{evaluated_name('certify_l2', '_together')}.tsv"
        params:
            **EVALUATION_JOB,
            **EVALUATION["certify_l2"],
            **TOGETHER_JOB,
        message:
            f"Certifying the OOD scores of {together_names} in l2 balls"

    use rule certify_id as certify_id_together with:
        input:
            sets=[ID_TEST],
            parts=together_weights,
        output:
            **files_together("certify_id"),
        log:
            f"{LOGS}/{evaluated_name('certify_id', '_together')}.log",
        benchmark:
            f"{LOGS}/benchmarks/{evaluated_name('certify_id', '_together')}.tsv"
        params:
            **EVALUATION_JOB,
            **EVALUATION["certify_id"],
            **TOGETHER_JOB,
        message:
            f"Certifying the labels of {together_names} in l2 balls"
