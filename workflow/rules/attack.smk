# Attacks: on the confidence of OOD images (l-infinity and l2), and on the labels of ID images.


rule attack_linf:
    input:
        sets=OOD_TESTS,
        parts=method_weights,
    output:
        rows=f"{RESULTS}/evidence/attack_linf/{{method}}.parquet",
        record=f"{RESULTS}/evidence/attack_linf/{{method}}.json",
    log:
        f"{LOGS}/attack_linf/{{method}}.log",
    benchmark:
        f"{LOGS}/benchmarks/attack_linf/{{method}}.tsv"
    priority: 1  # the longest jobs first
    conda:
        ENVIRONMENT
    threads: config["threads"]
    resources:
        mem_mb=2000,
        runtime=1440,
        gpu=GPU,
    params:
        **NETWORK_JOB,
        budget=EVALUATION["attack_linf"],
        networks=method_networks,
        batch_size=EVALUATION["batch_size"],
        sigma=EVALUATION["sigma"],
        epsilon=EVALUATION["epsilon"],
        draws=EVALUATION["draws"],
    message:
        "Attacking the OOD confidence of {wildcards.method} in the l-infinity ball"
    script:
        "../scripts/attack_linf.py"


rule attack_l2:
    input:
        sets=OOD_TESTS,
        parts=method_weights,
    output:
        rows=f"{RESULTS}/evidence/attack_l2/{{method}}.parquet",
        record=f"{RESULTS}/evidence/attack_l2/{{method}}.json",
    log:
        f"{LOGS}/attack_l2/{{method}}.log",
    benchmark:
        f"{LOGS}/benchmarks/attack_l2/{{method}}.tsv"
    conda:
        ENVIRONMENT
    threads: config["threads"]
    resources:
        mem_mb=2000,
        runtime=1440,
        gpu=GPU,
    params:
        **NETWORK_JOB,
        **EVALUATION["attack_l2"],
        radii=EVALUATION["certify_l2"]["radii"],
        networks=method_networks,
        batch_size=EVALUATION["batch_size"],
    message:
        "Attacking the smoothed OOD score of {wildcards.method} in l2 balls"
    script:
        "../scripts/attack_l2.py"


rule attack_id:
    input:
        sets=[ID_TEST],
        parts=method_weights,
    output:
        rows=f"{RESULTS}/evidence/attack_id/{{method}}.parquet",
        record=f"{RESULTS}/evidence/attack_id/{{method}}.json",
    log:
        f"{LOGS}/attack_id/{{method}}.log",
    benchmark:
        f"{LOGS}/benchmarks/attack_id/{{method}}.tsv"
    conda:
        ENVIRONMENT
    threads: config["threads"]
    resources:
        mem_mb=2000,
        runtime=1440,
        gpu=GPU,
    params:
        **NETWORK_JOB,
        epsilons=EVALUATION["attack_id"]["epsilons"],
        budget=lambda wildcards: budget("attack_id", wildcards.method),
        networks=method_networks,
        batch_size=EVALUATION["batch_size"],
        sigma=EVALUATION["sigma"],
        draws=EVALUATION["draws"],
    message:
        "Attacking the labels of {wildcards.method} by AutoAttack"
    script:
        "../scripts/attack_id.py"
