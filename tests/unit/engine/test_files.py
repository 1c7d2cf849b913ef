"""The files of a container that the engine writes."""

from pathlib import Path

from boxship.engine.files import ContainerFiles
from boxship.engine.settings import EngineSettings


def test_the_hosts_files_go_on_whatever_their_bytes_are(tmp_path: Path) -> None:
    files = ContainerFiles(EngineSettings(data_root=str(tmp_path), exec_root=str(tmp_path)))
    directory = tmp_path / "containers" / "c"
    directory.mkdir(parents=True)
    files.write_network_files("c", hostname="c", hosts="1.2.3.4 caf\udce9\n", resolv_conf="nameserver 1.1.1.1\n")
    assert (directory / "hosts").read_bytes() == b"1.2.3.4 caf\xe9\n"
