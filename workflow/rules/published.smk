# The published protocol: what the authors' code computes, and each of its departures made sound by itself.


rule published:
    input:
        sets=[ID_TEST, *OOD_TESTS],
        parts=method_weights,
    output:
        **evaluated_files("published"),
    log:
        f"{LOGS}/{evaluated_name('published')}.log",
    benchmark:
        f"{LOGS}/benchmarks/{evaluated_name('published')}.tsv"
    conda:
        ENVIRONMENT
    threads: config["threads"]
    resources:
        mem_mb=growing(8000 + CUDA_MB),
        runtime=growing(1440),
        gpu=GPU,
    params:
        **EVALUATION_JOB,
        **EVALUATION["published"],
        method_spec=method_spec,
        networks=method_networks,
        sigma=EVALUATION["sigma"],
        epsilon=EVALUATION["epsilon"],
        draws=EVALUATION["draws"],
        budget={key: EVALUATION["attack_linf"][key] for key in ("apgd", "pgd", "draws")},
        bounds=EVALUATION["certify_l2"]["bounds"],
        alpha=EVALUATION["certify_l2"]["alpha"],
        epsilons=EVALUATION["attack_id"]["epsilons"],
        autoattack=autoattack_budget,
    message:
        "Evaluating {wildcards.method} as the published code does"
    script:
        "../scripts/published.py"
