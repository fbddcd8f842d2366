# A rule for every evaluation of oodcert.evaluations.registry, and one for those that are computed of several methods.
JOINT = joint_methods(CONFIG.methods)
LINEAR = f"{RESULTS}/evidence/attack_linear/linear.parquet"


def methods_of(spec, joint):
    """Names of the methods that one job evaluates, or a wildcard for each by itself."""
    return joint or (["{method}"] if spec.methods else ["linear"])


def alone(spec):
    """Constraint of the wildcard method: joint methods are not evaluated by themselves."""
    others = [
        method
        for method in CONFIG.methods
        if method not in JOINT or spec.name not in JOINT_EVALUATIONS
    ]
    return "|".join(others) or "(?!)"


def test_sets(spec):
    """Files of the image sets."""
    return [
        *([ID_TEST] if "id" in spec.sides else []),
        *(OOD_TESTS if "ood" in spec.sides else []),
    ]


def used_components(spec, joint, wildcards):
    """Names of the components of the evaluated methods, each once."""
    methods = joint or ([wildcards.method] if spec.methods else [])
    return list(
        dict.fromkeys(
            name for method in methods for name in CONFIG.methods[method].components
        )
    )


def component_files(spec, joint):
    """Files of the components of the evaluated methods, as a function of the wildcards."""
    return lambda wildcards: weights(used_components(spec, joint, wildcards))


def user_code(spec, joint):
    """Source files of user-supplied networks of the evaluated methods, as a function of the wildcards."""
    return lambda wildcards: code_of(used_components(spec, joint, wildcards))


def id_row_files(spec, joint):
    """Of a shard of the OOD sets that needs them: the rows of all ID images."""

    def files(wildcards):
        if not wildcards.get("shard", "").startswith("ood"):
            return []
        return [
            path
            for method in (joint or [wildcards.method])
            for path in shard_files(spec.name, method, "parquet", "id")
        ]

    return files


def evaluation_settings(spec, joint):
    """Method -> its settings, as a function of the wildcards; a changed value runs exactly those jobs again."""

    def settings(wildcards):
        methods = joint or ([wildcards.method] if spec.methods else ["linear"])
        return {method: spec.settings(CONFIG, method).as_json() for method in methods}

    return settings


def evaluated_files(spec, joint):
    """Output of an evaluation: its evidence or, where it is divided in shards, that of one shard."""
    stems = [
        f"{RESULTS}/evidence/{spec.name}/{method}" for method in methods_of(spec, joint)
    ]
    kinds = dict(rows="parquet", record="json")
    if SHARDS > 1 and spec.whole_batches:
        stems = [
            f"{RESULTS}/shards/{spec.name}/{method}/{{shard}}"
            for method in methods_of(spec, joint)
        ]
        return {
            kind: [temp(f"{stem}.{suffix}") for stem in stems]
            for kind, suffix in kinds.items()
        }
    return {
        kind: [f"{stem}.{suffix}" for stem in stems] for kind, suffix in kinds.items()
    }


def log_name(spec, joint):
    """Where the logs of such a job lie."""
    name = (
        f"{spec.name}/_joint" if joint else f"{spec.name}/{methods_of(spec, joint)[0]}"
    )
    return name + ("-{shard}" if SHARDS > 1 and spec.whole_batches else "")


def evaluation_message(spec, joint):
    """What the job does, for the terminal."""
    return spec.message.format(" and ".join(joint) if joint else "{wildcards.method}")


def shard_files(evaluation, method, kind, *phases):
    """Files of the shards of an evaluation: of these phases, or of all."""
    return [
        f"{RESULTS}/shards/{evaluation}/{method}/{shard}.{kind}"
        for phase, names in shards(CONFIG, evaluation, method).items()
        for shard in names
        if phase in phases or not phases
    ]


for spec in evaluations_of(CONFIG).values():
    for joint in [[], *([JOINT] if JOINT and spec.name in JOINT_EVALUATIONS else [])]:

        rule:
            name:
                f"{spec.name}_joint" if joint else spec.name
            input:
                sets=test_sets(spec),
                components=component_files(spec, joint),
                id_rows=id_row_files(spec, joint),
                code=user_code(spec, joint),
            output:
                **evaluated_files(spec, joint),
            log:
                f"{LOGS}/{log_name(spec, joint)}.log",
            benchmark:
                f"{LOGS}/benchmarks/{log_name(spec, joint)}.tsv"
            wildcard_constraints:
                method=alone(spec),
            priority: spec.priority
            conda:
                ENVIRONMENT
            threads: CONFIG.threads
            resources:
                mem_mb=growing(spec.megabytes + CUDA_MB),
                runtime=growing(spec.minutes),
                gpu=GPU,
            params:
                evaluation=spec.name,
                settings=evaluation_settings(spec, joint),
            message:
                evaluation_message(spec, joint)
            script:
                "../scripts/evaluate.py"
