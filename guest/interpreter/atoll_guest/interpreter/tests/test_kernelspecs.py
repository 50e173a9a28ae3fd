import json
from pathlib import Path

import pytest

from atoll_guest.interpreter import kernelspecs


def install(folder: Path, name: str, document: object) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "kernel.json").write_text(json.dumps(document))


def test_an_installed_kernel_is_found_by_its_language(tmp_path: Path) -> None:
    install(
        tmp_path,
        "ir",
        {"argv": ["sh", "{resource_dir}/x", "{connection_file}"], "language": "R", "env": {"A": 1}},
    )
    spec = kernelspecs.find("r", [tmp_path])
    assert spec.argv == ("sh", f"{tmp_path}/ir/x", "{connection_file}")
    assert (spec.env, spec.transport, spec.interrupt_mode) == ({"A": "1"}, "tcp", "signal")


def test_irkernel_is_started_our_way_whoever_installed_it(tmp_path: Path) -> None:
    argv = ["sh", "--slave", "-e", "IRkernel::main()", "--args", "{connection_file}"]
    install(tmp_path, "ir", {"argv": argv, "language": "R"})
    expression = kernelspecs.find("r", [tmp_path]).argv[3]
    assert Path(expression.removeprefix("source('").removesuffix("')")).is_file()


def test_our_metadata_adds_languages_and_chooses_the_transport(tmp_path: Path) -> None:
    metadata = {"atoll_transport": "ipc", "atoll_languages": ["javascript"]}
    install(tmp_path, "deno", {"argv": ["sh"], "language": "typescript", "metadata": metadata})
    assert kernelspecs.find("javascript", [tmp_path]).transport == "ipc"
    assert kernelspecs.find("typescript", [tmp_path]).argv == ("sh",)


def test_the_first_folder_wins_and_broken_specs_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a" / "broken").mkdir(parents=True)
    (tmp_path / "a" / "broken" / "kernel.json").write_text("{")
    install(
        tmp_path / "a",
        "old",
        {"argv": ["sh", "old"], "language": "x", "metadata": {"atoll_transport": "pigeon"}},
    )
    install(tmp_path / "a", "one", {"argv": ["sh", "one"], "language": "x"})
    install(tmp_path / "b", "two", {"argv": ["sh", "two"], "language": "x"})
    assert kernelspecs.find("x", [tmp_path / "a", tmp_path / "b"]).argv == ("sh", "one")


def test_a_missing_language_names_the_command_that_adds_it(tmp_path: Path) -> None:
    with pytest.raises(kernelspecs.NoKernel, match=r"\./atoll setup --all"):
        kernelspecs.find("ruby", [tmp_path])


def test_a_kernel_whose_program_is_missing_counts_as_not_installed(tmp_path: Path) -> None:
    install(tmp_path, "java", {"argv": ["no-such-java"], "language": "java"})
    with pytest.raises(kernelspecs.NoKernel):
        kernelspecs.find("java", [tmp_path])


def test_java_needs_a_jdk_and_the_kernel_that_the_languages_layer_compiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "java"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(kernelspecs, "_JAVA", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert kernelspecs.java_spec() is None
    (tmp_path / "kernel.jar").touch()
    spec = kernelspecs.java_spec()
    assert spec is not None
    assert (spec.argv[0], spec.argv[-1]) == (str(program), "{connection_file}")
    assert f"-XX:SharedArchiveFile={tmp_path}/kernel.jsa" in spec.argv
    assert (spec.transport, spec.interrupt_mode, spec.drops_output) == ("ipc", "message", False)
    assert kernelspecs.find("java", []) == spec
    monkeypatch.setenv("PATH", "")
    assert kernelspecs.java_spec() is None


def test_jupyters_folders_are_searched_the_users_own_first() -> None:
    folders = kernelspecs.data_folders({"JUPYTER_PATH": "/a:/b", "HOME": "/home/user"})
    assert [str(folder) for folder in folders[:3]] == [
        "/a/kernels",
        "/b/kernels",
        "/home/user/.local/share/jupyter/kernels",
    ]


def test_only_our_own_kernels_never_drop_output(tmp_path: Path) -> None:
    install(tmp_path, "x", {"argv": ["sh"], "language": "x"})
    assert kernelspecs.find("x", [tmp_path]).drops_output
    assert not kernelspecs.bash_spec().drops_output
    assert not kernelspecs.python_spec().drops_output


def test_the_last_value_of_r_is_its_main_result_whoever_installed_the_kernel(tmp_path: Path) -> None:
    spec, _ = kernelspecs.parse({"language": "R", "argv": ["R", "{connection_file}"]}, tmp_path)
    assert spec.displays_values
