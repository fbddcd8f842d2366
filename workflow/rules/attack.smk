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
        **EVALUATION_JOB,
        budget=EVALUATION["attack_linf"],
        composition=composition,
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
        rows=f"{RESULTS}/evidence/sanity/{{method}}.parquet",
        record=f"{RESULTS}/evidence/sanity/{{method}}.json",
    log:
        f"{LOGS}/sanity/{{method}}.log",
    benchmark:
        f"{LOGS}/benchmarks/sanity/{{method}}.tsv"
    conda:
        ENVIRONMENT
    threads: config["threads"]
    resources:
        mem_mb=2000,
        runtime=1440,
        gpu=GPU,
    params:
        **EVALUATION_JOB,
        **EVALUATION["sanity"],
        budget=EVALUATION["attack_linf"],
        composition=composition,
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
        mem_mb=2000,
        runtime=60,
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
        **EVALUATION_JOB,
        **EVALUATION["attack_l2"],
        radii=EVALUATION["certify_l2"]["radii"],
        composition=composition,
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
        **EVALUATION_JOB,
        epsilons=EVALUATION["attack_id"]["epsilons"],
        budget=autoattack_budget,
        composition=composition,
        networks=method_networks,
        sigma=EVALUATION["sigma"],
        draws=EVALUATION["draws"],
    message:
        "Attacking the labels of {wildcards.method} by AutoAttack"
    script:
        "../scripts/attack_id.py"
