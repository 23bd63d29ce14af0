"""Liquid templates: what they write, what they are refused, where they stop."""

from __future__ import annotations

from typing import Any

import pytest

from dspex.contracts.failures import BadRequest
from dspex.contracts.native_requests import RenderTemplate
from dspex.native.templates import rendering as templates
from dspex.native.templates.lexing import EXPRESSION_LIMIT
from dspex.native.templates.rendering import TEMPLATE_LIMIT, ready, render_template

PEOPLE = [{"name": "Ann", "age": 3}, {"name": "Bob", "age": 5}]
VALUES: dict[str, Any] = {
    "name": "Ann",
    "people": PEOPLE,
    "tags": ["b", "a"],
    "none": None,
    "partial": "kept",
    "d": {"k": 1},
    "long": "a" * 500_000,
    "many": list(range(50_000)),
}


def rendered(template: str, **values: Any) -> str:
    body = RenderTemplate(template=template, values=values or VALUES)
    return render_template(body).text


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain } text %} {", "plain } text %} {"),
        ("Hi {{ name | upcase }}!", "Hi ANN!"),
        ("a  {{- name -}}  b", "aAnnb"),
        ("a {%- if name -%} b {%- endif %} c", "ab c"),
        ("{% if name == 'x' %}1{% elsif none %}2{% else %}3{% endif %}", "3"),
        ("{% unless none %}ok{% endunless %}", "ok"),
        ("{% case name %}{% when 'Ann' %}yes{% else %}no{% endcase %}", "yes"),
        ("{% for p in people %}{{ p.name }}={{ p.age }};{% endfor %}", "Ann=3;Bob=5;"),
        (
            "{% for i in (1..3) reversed %}{{ forloop.index }}{{ i }} {% endfor %}",
            "13 22 31 ",
        ),
        ("{% for i in (1..9) limit:2 offset:3 %}{{ i }}{% endfor %}", "45"),
        ("{% for t in none %}{% else %}empty{% endfor %}", "empty"),
        (
            "{% for t in tags %}{{ t }}{% break %}{% endfor %}",
            "b",
        ),
        ("{% assign x = tags | sort | join: ',' %}{{ x }}", "a,b"),
        ("{% capture x %}<{{ name }}>{% endcapture %}{{ x }}{{ x }}", "<Ann><Ann>"),
        ("{% cycle 'a', 'b' %}{% cycle 'a', 'b' %}", "ab"),
        ("{% increment n %}{% increment n %}{% decrement n %}", "011"),
        ("a{% comment %}{{ {% comment %}{% endcomment %}{% endcomment %}b", "ab"),
        ("{% raw %}{{ name }}{% endraw %}", "{{ name }}"),
        ("{% # remark %}{% echo name %}", "Ann"),
        ("{{ people[0].name }}{{ people.size }}{{ people.first.age }}", "Ann23"),
        ("{{ people | map: 'age' | sum }}", "8"),
        ("{{ people | where: 'age', 5 | first | json }}", '{"name":"Bob","age":5}'),
        ("{{ nothing | default: 'x' }}{{ none | default: 'y' }}{{ none }}", "xy"),
        ("{{ partial }}", "kept"),
        ("{% for p in d %}{{ p[0] }}:{{ p[1] }}{% endfor %}", "k:1"),
        ("<{{ '<&>' }}> {{ '<&>' | escape }}", "<<&>> &lt;&amp;&gt;"),
    ],
)
def test_templates(template: str, text: str) -> None:
    """Outputs, conditions, loops, names and filters do what Liquid says."""
    assert rendered(template) == text


@pytest.mark.parametrize(
    ("template", "field", "told"),
    [
        ("{{ nam }}", "values.nam", "Did you mean 'name'?"),
        ("{{ people[0].nam }}", "values.people[0].nam", "Allowed: age, name"),
        ("{{ name.__class__ }}", "values.name.__class__", "nothing inside"),
        ("{{ tags.append }}", "values.tags.append", "nothing inside"),
        ("{{ d.keys }}", "values.d.keys", "Allowed: k"),
        ("{{ people[7] }}", "values.people[7]", "nothing inside"),
        ("{% if nam %}{% endif %}", "values.nam", "Did you mean 'name'?"),
        ("{% if nam == 'x' %}{% endif %}", "values.nam", "Did you mean 'name'?"),
        ("{{ now }}{{ today }}", "values.now", "not among the values"),
    ],
)
def test_names_that_are_not_there(template: str, field: str, told: str) -> None:
    """A name that is not among the values is a failure that names what is there."""
    with pytest.raises(BadRequest) as caught:
        rendered(template)
    assert caught.value.field == field
    assert told in caught.value.message


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{{ name", "line 1: it is never closed"),
        ("\n\n{% if name %}", "expected tag"),
        ("{% %}", "a tag begins with its name"),
        ("{% raw %}", "endraw"),
        ("{% comment %}", "endcomment"),
        ("\n{% include 'a' %}", "line 2: unexpected tag 'include'"),
        ("{% render 'a' %}", "unexpected tag 'render'"),
        ("{% liquid echo name %}", "unexpected tag 'liquid'"),
        ("{{ name | upcas }}", "unknown filter 'upcas'"),
        ("{{ 'now' | date: '%Y' }}", "unknown filter 'date'"),
        ("{{ name | slice }}", "slice"),
        ("{{ 1 | divided_by: 0 }}", "divide"),
        ("{{ 'nan' | ceil }}", "NaN"),
        ("{{ '1e999999999' | split: ',' | sum }}", "Overflow"),
        ("{{ tags | json: 1 }}", "json"),
        ("{{ (1..3) | join }}", "a range stands only in"),
        ("{% assign r = (1..3) %}", "a range stands only in"),
        ("{% if (1..3) contains 'a' %}{% endif %}", "a range stands only in"),
        ("{% for i in (1..3) limit:(1..2) %}{% endfor %}", "a range stands only in"),
        ("{% if 1 %}" * 100, "nesting"),
        ("{{ '" + "a" * EXPRESSION_LIMIT + "' }}", "more than 1000 characters"),
        ("a" * (TEMPLATE_LIMIT + 1), "more than 65536"),
        ("{{ a" + "[a" * 400 + " }}", "cannot be used"),
    ],
)
def test_templates_that_cannot_be_used(template: str, told: str) -> None:
    """What cannot be read or done is refused with its line and a reason."""
    with pytest.raises(BadRequest) as caught:
        rendered(template)
    assert told in caught.value.message
    assert caught.value.field == "template"


def test_unknown_filters_name_the_nearest() -> None:
    """A misspelt filter is answered with the one that is meant."""
    with pytest.raises(BadRequest) as caught:
        rendered("{{ name | upcas }}")
    assert "Did you mean 'upcase'?" in caught.value.hint


def each(rounds: int, body: str) -> str:
    return f"{{% for i in (1..{rounds}) %}}{body}{{% endfor %}}"


DOUBLING = "{{% assign x = name %}}{}".format
BOMBS = {
    "nested loops": each(2000, each(2000, "")),
    "huge range": "{% for a in (1..1000000000) %}{% endfor %}",
    "huge range, backwards": each(999_999_999, "").replace(" %}", " reversed %}", 1),
    "endless range": "{% for a in (1..9999999999999999999999999) %}{% endfor %}",
    "long rounds": "{% for i in (1..10000) %}"
    + "{% if 1 %}{% endif %}" * 2000
    + "{% endfor %}",
    "appended": DOUBLING("{% assign x = x | append: x %}" * 60),
    "captured": DOUBLING("{% capture x %}{{ x }}{{ x }}{% endcapture %}" * 60),
    "replaced": "{{ long | replace: '', long }}",
    "replaced letters": "{{ long | replace: 'a', long }}",
    "joined": "{{ many | join: long }}",
    "split": each(100, "{% assign x = long | split: '' %}"),
    "sorted": each(1000, "{% assign x = many | sort %}"),
    "uniq": "{{ many | uniq }}",
    "concatenated": "{% assign x = many %}" + "{% assign x = x | concat: x %}" * 40,
    "compared": each(9999, "{% if many == many %}{% endif %}"),
    "searched": each(9999, "{% if long contains 'b' %}{% endif %}"),
    "cycled": each(9999, "{% cycle many, 'b' %}"),
    "written": each(9999, "{{ many }}"),
    "encoded": each(100, "{% assign x = long | url_encode %}"),
    "mapped": each(9999, "{% assign x = people | map: 'name' %}") * 20,
    "large text": "{{ long }}{{ long }}{{ long }}",
}


@pytest.mark.parametrize("name", BOMBS)
def test_templates_without_end_are_refused(name: str) -> None:
    """What would take too long or write too much is stopped by its steps."""
    with pytest.raises(BadRequest, match="more than"):
        rendered(BOMBS[name])


def test_large_integers_are_refused() -> None:
    """Multiplying a number by itself ends where its digits become many."""
    with pytest.raises(BadRequest, match="times takes integers of up to 4096 bits"):
        rendered("{% assign x = 99 %}" + "{% assign x = x | times: x %}" * 60)
    with pytest.raises(BadRequest, match="digits"):
        rendered("{{ n }}", n=10**5000)


@pytest.mark.parametrize(
    "text",
    ["{{", "{%", "{{ ", "{% raw %}", "{% comment %}", "{{ (", "{{ 'a", "{{-", "{% a -"],
)
def test_delimiters_are_found_in_one_go(text: str) -> None:
    """Delimiters that are never closed are refused without going back for them."""
    repeated = text * (TEMPLATE_LIMIT // len(text))

    with pytest.raises(BadRequest, match="cannot be used"):
        rendered(repeated)


def test_a_long_ordinary_template_is_far_from_the_limit() -> None:
    """Five thousand rows are written."""
    rows = [{"name": "Ann", "age": i} for i in range(5000)]
    template = (
        "{% for p in people %}{{ p.name }} is {{ p.age | plus: 1 }}.\n{% endfor %}"
    )

    assert rendered(template, people=rows).count("\n") == 5000


def test_templates_are_kept() -> None:
    """The same template is read once, and one rendering leaves nothing to the next."""
    assert ready("{{ a }}") is ready("{{ a }}")
    assert rendered("{% increment n %}") == rendered("{% increment n %}") == "0"
    assert len(templates._KEPT) <= templates.ENTRY_LIMIT
