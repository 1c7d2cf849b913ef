"""What ``rmi`` takes and refuses, in Docker's order and words."""

import pytest

from boxship.base.errors import Conflict
from boxship.images.model import ImageUser
from boxship.images.removal import Known, Step, plan

ID = "sha256:b27b4c2ae356" + "0" * 52
CHILD = "sha256:c1c1c1c1c1c1" + "0" * 52
CONTAINER = "5f6e468d70ea" + "0" * 52
A, B = "docker.io/library/a:latest", "docker.io/library/b:latest"


def user(*, running: bool = False) -> list[ImageUser]:
    return [ImageUser(CONTAINER, ID, "a", running)]


def run(
    ref: str, name: str | None, images: dict[str, Known], users: list[ImageUser], force: bool = False
) -> list[Step]:
    return plan(ref, ID, name, images, users, force=force, prune=True)


@pytest.mark.row("IMG-09")
def test_the_last_name_takes_the_image_along() -> None:
    assert run("a", A, {ID: Known([A], "")}, []) == [Step(ID, A), Step(ID, None)]


def test_a_name_of_several_only_goes_itself_even_when_the_image_is_in_use() -> None:
    assert run("a", A, {ID: Known([A, B], "")}, user()) == [Step(ID, A)]


@pytest.mark.row("IMG-09")
def test_the_last_name_of_a_used_image_needs_force() -> None:
    with pytest.raises(Conflict) as caught:
        run("a", A, {ID: Known([A], "")}, user())
    assert str(caught.value) == (
        'conflict: unable to remove repository reference "a" (must force) - '
        "container 5f6e468d70ea is using its referenced image b27b4c2ae356"
    )


def test_force_takes_the_name_of_a_running_containers_image_and_leaves_it_dangling() -> None:
    assert run("a", A, {ID: Known([A], "")}, user(running=True), force=True) == [Step(ID, A)]


def test_force_deletes_the_image_of_a_stopped_container() -> None:
    assert run("a", A, {ID: Known([A], "")}, user(), force=True) == [Step(ID, A), Step(ID, None)]


@pytest.mark.parametrize(
    ("names", "users", "force", "message"),
    [
        ([A, B], [], False, "(must be forced) - image is referenced in multiple repositories"),
        ([A], user(), False, "(must be forced) - image is being used by stopped container 5f6e468d70ea"),
        ([A], user(running=True), False, "(cannot be forced) - image is being used by running container 5f6e468d70ea"),
        ([A], user(running=True), True, "(cannot be forced) - image is being used by running container 5f6e468d70ea"),
    ],
)
def test_deleting_by_id_is_refused(names: list[str], users: list[ImageUser], force: bool, message: str) -> None:
    with pytest.raises(Conflict) as caught:
        run(ID, None, {ID: Known(names, "")}, users, force)
    assert str(caught.value) == f"conflict: unable to delete b27b4c2ae356 {message}"


def test_force_by_id_takes_all_names() -> None:
    assert run(ID, None, {ID: Known([A, B], "")}, [], True) == [Step(ID, A), Step(ID, B), Step(ID, None)]


def test_an_image_with_children_stays() -> None:
    images = {ID: Known([], ""), CHILD: Known([B], ID)}
    with pytest.raises(Conflict, match=r"cannot be forced.*image has dependent child images"):
        run(ID, None, images, [], True)
    assert run("a", A, {ID: Known([A], ""), CHILD: Known([B], ID)}, []) == [Step(ID, A)]


def test_unused_parents_go_with_their_last_child() -> None:
    images = {ID: Known([A], CHILD), CHILD: Known([], "")}
    assert run("a", A, images, [])[-1] == Step(CHILD, None)
    named = {ID: Known([A], CHILD), CHILD: Known([B], "")}
    assert run("a", A, named, [])[-1] == Step(ID, None)
    assert plan("a", ID, A, images, [], force=False, prune=False)[-1] == Step(ID, None)
