# Downloads, and the image sets made of them: training, outlier exposure, ID test and OOD test sets.


# files that are there already are sources: no rule makes or removes them
rule download:
    output:
        f"{DOWNLOADS}/{{file}}",
    log:
        "logs/downloads/{file}.log",
    wildcard_constraints:
        file="|".join(
            re.escape(name)
            for name in remote_files()
            if not (DOWNLOADS / name).exists()
        )
        or "none",
    retries: 1
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(240),
    message:
        "Downloading {wildcards.file}"
    script:
        "../scripts/download.py"


rule id_sets:
    input:
        id_files(CONFIG.data, CONFIG.data_mirror),
    output:
        f"{DATA}/id_train.npz",
        ID_TEST,
    log:
        f"{LOGS}/id_sets.log",
    benchmark:
        f"{LOGS}/benchmarks/id_sets.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        sets="id_sets",
        data=image_settings([CONFIG.data.id], "num_classes"),
        folders=lambda wildcards: folders_sha256(CONFIG.data, [CONFIG.data.id]),
        data_mirror=CONFIG.data_mirror,
    message:
        "Building the ID sets of {config[profile]}"
    script:
        "../scripts/image_sets.py"


use rule id_sets as outlier_sets with:
    input:
        outlier_files(CONFIG.data, CONFIG.data_mirror),
        OVERLAPS,
    output:
        f"{DATA}/outliers.npz",
    log:
        f"{LOGS}/outlier_sets.log",
    benchmark:
        f"{LOGS}/benchmarks/outlier_sets.tsv"
    params:
        sets="outlier_sets",
        data=image_settings([CONFIG.data.outliers], "synthetic_outliers"),
        folders=lambda wildcards: folders_sha256(CONFIG.data, [CONFIG.data.outliers]),
        data_mirror=CONFIG.data_mirror,
    message:
        "Building the outliers of {config[profile]}"


use rule id_sets as ood_sets with:
    input:
        ood_files(CONFIG.data, CONFIG.data_mirror),
    output:
        OOD_TESTS,
    log:
        f"{LOGS}/ood_sets.log",
    benchmark:
        f"{LOGS}/benchmarks/ood_sets.tsv"
    params:
        sets="ood_sets",
        data=image_settings(CONFIG.data.ood, "ood", "test_images"),
        folders=lambda wildcards: folders_sha256(CONFIG.data, CONFIG.data.ood),
        data_mirror=CONFIG.data_mirror,
    message:
        "Building the OOD sets of {config[profile]}"
