from poise.config import parse
from poise.first_words import of_report


def test_a_report_tells_of_recipe_model_and_data_with_what_is_done_to_them() -> None:
    config = parse(["recipe=mixup", "data=digits,label_noise", "data.label_noise.rate=0.2", "model=mlp"])
    data = "model mlp · data digits, label_noise (rate=0.2, kind=symmetric, splits=train)"
    assert of_report(config, trained=True) == f"recipe mixup · {data}"
    assert of_report(config, trained=False) == data
    assert of_report(parse(["data=digits"]), trained=True).startswith("recipe plain · model small_cnn · data digits")
