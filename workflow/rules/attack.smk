# Attacks: on the confidence of OOD images (l-infinity and l2), and on the labels of ID images.


rule attack_linf:
    input:
        sets=OOD_TESTS,
        parts=method_weights,
    output:
        **evaluated_files("attack_linf"),
    log:
        f"{LOGS}/{evaluated_name('attack_linf')}.log",
    benchmark:
        f"{LOGS}/benchmarks/{evaluated_name('attack_linf')}.tsv"
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
        budget=EVALUATION["attack_linf"],
        method_spec=method_spec,
        networks=method_networks,
        sigma=EVALUATION["sigma"],
        epsilon=EVALUATION["epsilon"],
        draws=EVALUATION["draws"],
    message:
        "Attacking the OOD confidence of {wildcards.method} in the l-infinity ball"
    script:
        "../scripts/attack_linf.py"


rule sanity:
    input:
        sets=OOD_TESTS,
        parts=method_weights,
    output:
        **evaluated_files("sanity"),
    log:
        f"{LOGS}/{evaluated_name('sanity')}.log",
    benchmark:
        f"{LOGS}/benchmarks/{evaluated_name('sanity')}.tsv"
    conda:
        ENVIRONMENT
    threads: config["threads"]
    resources:
        mem_mb=growing(2000 + CUDA_MB),
        runtime=growing(1440),
        gpu=GPU,
    params:
        **EVALUATION_JOB,
        **EVALUATION["sanity"],
        budget=EVALUATION["attack_linf"],
        method_spec=method_spec,
        networks=method_networks,
        sigma=EVALUATION["sigma"],
        epsilon=EVALUATION["epsilon"],
        draws=EVALUATION["draws"],
    message:
        "Trying the l-infinity attack on {wildcards.method} at other radii and budgets"
    script:
        "../scripts/sanity.py"


rule attack_linear:
    input:
        sets=OOD_TESTS,
    output:
        rows=f"{RESULTS}/evidence/attack_linear/linear.parquet",
        record=f"{RESULTS}/evidence/attack_linear/linear.json",
    log:
        f"{LOGS}/attack_linear.log",
    benchmark:
        f"{LOGS}/benchmarks/attack_linear.tsv"
    conda:
        ENVIRONMENT
    threads: config["threads"]
    resources:
        mem_mb=growing(2000 + CUDA_MB),
        runtime=growing(60),
        gpu=GPU,
    params:
        **NETWORK_JOB,
        budget=EVALUATION["attack_linf"],
        epsilon=EVALUATION["epsilon"],
    message:
        "Attacking a linear score, whose maximum is known"
    script:
        "../scripts/attack_linear.py"


rule attack_l2:
    input:
        sets=OOD_TESTS,
        parts=method_weights,
    output:
        **evaluated_files("attack_l2"),
    log:
        f"{LOGS}/{evaluated_name('attack_l2')}.log",
    benchmark:
        f"{LOGS}/benchmarks/{evaluated_name('attack_l2')}.tsv"
    conda:
        ENVIRONMENT
    threads: config["threads"]
    resources:
        mem_mb=growing(2000 + CUDA_MB),
        runtime=growing(1440),
        gpu=GPU,
    params:
        **EVALUATION_JOB,
        **EVALUATION["attack_l2"],
        **{
            key: value
            for key, value in EVALUATION["certify_l2"].items()
            if key in ("radii", "precision")
        },
        method_spec=method_spec,
        networks=method_networks,
    message:
        "Attacking the smoothed OOD score of {wildcards.method} in l2 balls"
    script:
        "../scripts/attack_l2.py"


rule attack_id:
    input:
        sets=[ID_TEST],
        parts=method_weights,
    output:
        **evaluated_files("attack_id"),
    log:
        f"{LOGS}/{evaluated_name('attack_id')}.log",
    benchmark:
        f"{LOGS}/benchmarks/{evaluated_name('attack_id')}.tsv"
    conda:
        ENVIRONMENT
    threads: config["threads"]
    resources:
        mem_mb=growing(2000 + CUDA_MB),
        runtime=growing(1440),
        gpu=GPU,
    params:
        **EVALUATION_JOB,
        epsilons=EVALUATION["attack_id"]["epsilons"],
        budget=autoattack_budget,
        method_spec=method_spec,
        networks=method_networks,
        sigma=EVALUATION["sigma"],
        draws=EVALUATION["draws"],
    message:
        "Attacking the labels of {wildcards.method} by AutoAttack"
    script:
        "../scripts/attack_id.py"
