# Clean scores, and guarantees against l-infinity perturbations by interval bounds.


rule clean:
    input:
        sets=[ID_TEST, *OOD_TESTS],
        parts=method_weights,
    output:
        rows=f"{RESULTS}/evidence/clean/{{method}}.parquet",
        record=f"{RESULTS}/evidence/clean/{{method}}.json",
    log:
        f"{LOGS}/clean/{{method}}.log",
    benchmark:
        f"{LOGS}/benchmarks/clean/{{method}}.tsv"
    conda:
        ENVIRONMENT
    threads: config["threads"]
    resources:
        mem_mb=growing(2000 + CUDA_MB),
        runtime=growing(60),
        gpu=GPU,
    params:
        **EVALUATION_JOB,
        method_spec=method_spec,
        networks=method_networks,
        sigma=EVALUATION["sigma"],
        draws=EVALUATION["draws"],
        accuracy_images=config["data"]["accuracy_images"],
    message:
        "Scoring the clean images with {wildcards.method}"
    script:
        "../scripts/clean.py"


rule guarantee_linf:
    input:
        sets=OOD_TESTS,
        parts=method_weights,
    output:
        rows=f"{RESULTS}/evidence/guarantee_linf/{{method}}.parquet",
        record=f"{RESULTS}/evidence/guarantee_linf/{{method}}.json",
    log:
        f"{LOGS}/guarantee_linf/{{method}}.log",
    benchmark:
        f"{LOGS}/benchmarks/guarantee_linf/{{method}}.tsv"
    conda:
        ENVIRONMENT
    threads: config["threads"]
    resources:
        mem_mb=growing(2000 + CUDA_MB),
        runtime=growing(60),
        gpu=GPU,
    params:
        **EVALUATION_JOB,
        method_spec=method_spec,
        networks=method_networks,
        epsilon=EVALUATION["epsilon"],
    message:
        "Bounding the OOD confidence of {wildcards.method} in the l-infinity ball"
    script:
        "../scripts/guarantee_linf.py"
