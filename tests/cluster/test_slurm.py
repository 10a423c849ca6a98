from cluster.slurm import Cluster


def test_a(cluster: Cluster, tmp_path) -> None:
    print(cluster.run("sinfo"))
