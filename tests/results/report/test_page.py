"""The report in a real browser: it plays, scrubs, sorts, and its console is clean."""

import json
import re
import shutil
from base64 import b64encode
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from nwbrecon.config import ResultsSettings
from nwbrecon.errors import ResultsError
from nwbrecon.evaluation import evaluate
from nwbrecon.results import Results, read_results, write_results
from nwbrecon.results.report import play, write_report
from nwbrecon.results.video import side_by_side, write_video

from ..examples import controls

chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
chromedriver = shutil.which("chromedriver")
in_browser = pytest.mark.skipif(not (chromium and chromedriver), reason="needs chromium and chromedriver")

NASTY = "</script><script>document.title='broken'</script><img src=x onerror=alert(1)>&\"'"


@pytest.fixture(scope="module")
def results(tmp_path_factory, reconstructions, aligned, encoder, encoder_scores):
    path = tmp_path_factory.mktemp("results") / "results.nwb"
    scores = evaluate(reconstructions, aligned)
    settings = ResultsSettings(include_stimulus=True)
    write_results(
        path,
        reconstructions,
        scores,
        controls=controls(),
        aligned=aligned,
        encoder=encoder,
        encoder_scores=encoder_scores,
        settings=settings,
    )
    return read_results(path)


@pytest.fixture(scope="module")
def report(tmp_path_factory, results, aligned):
    return write_report(tmp_path_factory.mktemp("report") / "report.html", results, aligned=aligned)


@pytest.fixture(scope="module")
def browser():
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--window-size=1200,900",
        "--force-prefers-reduced-motion",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, report):
    """The report, freshly loaded, its first clip shown."""
    return opened(browser, report)


def opened(browser, path):
    browser.get(path.as_uri())
    wait(browser, lambda: frame(browser) is not None)
    return browser


def wait(browser, condition):
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 10, poll_frequency=0.02).until(lambda _: condition())


def frame(browser):
    found = re.search(r"frame (\d+) of (\d+)", browser.find_element("id", "clock").text)
    return int(found[1]) - 1 if found else None


def pixels(browser, stream):
    """Gray levels that stand on a canvas, with nothing darkened."""
    flat = browser.execute_script(
        """
        const canvas = document.querySelector(`canvas[data-stream="${arguments[0]}"]`);
        const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        return [canvas.height, canvas.width, ...data.filter((_, index) => index % 4 === 0)];
        """,
        stream,
    )
    return np.array(flat[2:]).reshape(flat[:2])


def scrub(browser, to):
    browser.execute_script(
        "const s = document.getElementById('scrubber'); s.value = arguments[0];"
        "s.dispatchEvent(new Event('input', {bubbles: true}));",
        to,
    )


def test_training_is_there_epoch_by_epoch(report):
    text = report.read_text(encoding="utf-8")
    assert "Training of the encoder, epoch by epoch (5 rows)" in text
    assert "<tr><td>4</td><td>1.5</td><td>0.2</td></tr>" in text


@in_browser
class TestInBrowser:
    def test_scrubbing_shows_the_stored_pixels(self, page, results):
        page.find_element("id", "shade").click()
        item = results.reconstructions[0]
        for to in (0, 17, len(item.video) - 1):
            scrub(page, to)
            assert frame(page) == to
            np.testing.assert_array_equal(pixels(page, "video"), item.video[to])
            np.testing.assert_array_equal(pixels(page, "true"), results.true_movies[0][to])
            np.testing.assert_array_equal(pixels(page, "baseline ridge"), item.baselines["ridge"][to])

    def test_pixels_outside_the_mask_are_darkened_unless_told_otherwise(self, page, results):
        item, mask = results.reconstructions[0], results.reconstructions.mask
        scrub(page, 3)
        shown = pixels(page, "video")
        np.testing.assert_array_equal(shown[mask], item.video[3][mask])
        assert (shown[~mask] < item.video[3][~mask]).all()

    def test_playing_advances_in_time_and_stops(self, page):
        page.find_element("id", "speed").send_keys("½")
        scrub(page, 0)
        page.find_element("id", "play").click()
        assert page.find_element("id", "play").get_attribute("aria-label") == "Pause"
        wait(page, lambda: frame(page) >= 10)
        page.find_element("id", "play").click()
        stopped = frame(page)
        page.execute_async_script("setTimeout(arguments[0], 150)")
        assert frame(page) == stopped

    def test_it_stops_at_the_end_when_it_does_not_loop(self, page, results):
        page.find_element("id", "loop").click()
        last = len(results.reconstructions[0].video) - 1
        scrub(page, last - 5)
        page.find_element("id", "play").click()
        wait(page, lambda: page.find_element("id", "play").get_attribute("aria-label") == "Play")
        assert frame(page) == last

    def test_keys_step_play_and_jump(self, page, results):
        from selenium.webdriver.common.keys import Keys

        scrubber = page.find_element("id", "scrubber")
        last = len(results.reconstructions[0].video) - 1
        for key, wanted in ((Keys.HOME, 0), (Keys.ARROW_RIGHT, 1), (Keys.END, last), (Keys.ARROW_LEFT, last - 1)):
            scrubber.send_keys(key)
            assert frame(page) == wanted
        scrubber.send_keys(Keys.SPACE)
        assert page.find_element("id", "play").get_attribute("aria-label") == "Pause"

    def test_another_clip_is_shown(self, page, results):
        page.find_element("id", "shade").click()
        page.find_element("id", "clip").send_keys("clip 2")
        wait(page, lambda: frame(page) == 0)
        np.testing.assert_array_equal(pixels(page, "video"), results.reconstructions[2].video[0])

    def test_the_table_sorts_by_any_column(self, page):
        def column(index):
            cells = page.find_elements("css selector", f"#table tbody tr > :nth-child({index + 1})")
            return [cell.text.replace("−", "-") for cell in cells]

        headings = page.find_elements("css selector", "#table thead th")
        names = [heading.text.split(" ↕")[0] for heading in headings]
        index = names.index("Pixel correlation")
        button = headings[index].find_element("tag name", "button")
        button.click()
        values = [float(text) for text in column(index)]
        assert values == sorted(values, reverse=True)
        assert headings[index].get_attribute("aria-sort") == "descending"
        button.click()
        values = [float(text) for text in column(index)]
        assert values == sorted(values)
        headings[0].find_element("tag name", "button").click()
        assert column(0) == sorted(column(0))
        assert headings[index].get_attribute("aria-sort") == "none"

    def test_a_clip_in_the_table_plays(self, page, results):
        page.find_element("css selector", '[data-play="1"]').click()
        wait(page, lambda: page.find_element("id", "play").get_attribute("aria-label") == "Pause")
        chosen = page.find_element("id", "clip").get_attribute("value")
        assert chosen == "1"
        assert page.find_element("css selector", "tr.playing").get_attribute("data-row") == "1"

    def test_a_click_on_the_curve_goes_there(self, page, results):
        from selenium.webdriver.common.action_chains import ActionChains

        chart = page.find_element("id", "chart")
        page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", chart)
        count = len(results.reconstructions[0].video)
        ActionChains(page).move_to_element_with_offset(chart, chart.size["width"] // 4, 0).click().perform()
        assert frame(page) == pytest.approx(0.75 * count, abs=1)
        value = float(page.find_element("id", "value0").text.replace("−", "-"))
        curve = results.scores.frames.query("trial == 0 and method == 'map'").sort_values("frame")["frame_correlation"]
        assert value == pytest.approx(curve.iloc[frame(page)], abs=0.006)

    def test_responses_run_in_step(self, page, results, aligned):
        count = len(results.reconstructions[0].video)
        image, line = page.find_element("id", "responses"), page.find_element("id", "raster-now")
        wait(page, lambda: page.execute_script("return arguments[0].complete", image))
        size = page.execute_script("return [arguments[0].naturalWidth, arguments[0].naturalHeight]", image)
        assert size == [count, aligned.n_rois]
        for to in (0, count - 1):
            scrub(page, to)
            place = (line.rect["x"] - image.rect["x"]) / image.rect["width"]
            assert place == pytest.approx((to + 0.5) / count, abs=0.005)

    @pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False), (390, True)])
    def test_it_fits_and_loads_nothing_and_logs_nothing(self, browser, report, width, dark):
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500},
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        browser.get_log("browser"), browser.get_log("performance")
        try:
            page = opened(browser, report)
            assert page.execute_script("return document.documentElement.scrollWidth") <= width
            images = "return [...document.images].every((one) => one.complete && one.naturalWidth > 0)"
            wait(page, lambda: page.execute_script(images))
            assert page.execute_script("return document.querySelectorAll('img:not([alt])').length") == 0
            dark_image = page.execute_script(
                "const p = document.querySelector('#frames picture');"
                "return p.querySelector('img').currentSrc === p.querySelector('source').srcset"
            )
            assert dark_image is dark
            assert contrast(page) >= 4.5
        finally:
            browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        assert browser.get_log("browser") == []
        events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
        asked = {event["params"]["request"]["url"].split(":")[0] for event in events if "request" in event["params"]}
        assert asked <= {"file", "data"}

    @pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
    def test_trust_and_pictures_are_on_the_first_screen(self, browser, report, width, height):
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        try:
            page = opened(browser, report)
            bottoms = page.execute_script(
                "return [...document.querySelectorAll('.card')].map((one) => one.getBoundingClientRect().bottom)"
            )
            labels = [card.find_element("tag name", "h3").text for card in page.find_elements("css selector", ".card")]
            assert labels[0] == "Pixel correlation"
            assert labels[-1] == "Does the encoder see? yes"
            # on a narrow screen the first score, its floor and its ceiling
            assert (bottoms[-1] if width > 1000 else bottoms[0]) <= height
            text = page.find_element("css selector", ".card").text
            assert all(words in text for words in ("reconstruction", "ridge decoder", "chance", "ceiling"))
            seen = "canvas[data-stream=video]" if width > 1000 else ".stills img"
            picture = page.find_element("css selector", seen)
            assert picture.is_displayed()
            assert picture.rect["y"] + picture.rect["height"] <= height
        finally:
            browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    def test_everything_is_reached_by_the_keyboard(self, page):
        reached = page.execute_script(
            "return [...document.querySelectorAll('a[href], button, select, input, summary, [tabindex=\"0\"]')]"
            ".filter((one) => one.tabIndex >= 0).map((one) => one.id || one.className || one.tagName)"
        )
        for name in ("clip", "play", "back", "forward", "scrubber", "speed", "loop", "shade", "smooth", "skip"):
            assert name in reached
        # a table that scrolls must scroll by keys too
        assert "wide scroll" in reached
        unnamed = page.execute_script(
            "return [...document.querySelectorAll('button, select, input')].filter((one) => !one.textContent.trim() &&"
            " !one.ariaLabel && !(one.labels && one.labels.length)).length"
        )
        assert unnamed == 0

    def test_controls_are_shown_together(self, page, browser, tmp_path, results):
        rows = page.find_elements("css selector", "#controls li")
        for row, wanted in zip(rows, results.controls.verdicts.itertuples(), strict=True):
            assert row.find_element("css selector", ".badge").text == wanted.verdict
            assert row.text.endswith(wanted.sentence)
        assert rows[3].text.startswith("ROI labels permuted")
        kinds = [row.find_element("css selector", ".badge").get_attribute("class").split()[1] for row in rows]
        assert kinds == ["open", "open", "yes", "no", "open", "yes"]
        assert "3 of 3 clips" in page.find_element("css selector", "#controls .note").text
        image = page.find_element("css selector", "#controls img")
        wait(page, lambda: page.execute_script("return arguments[0].naturalWidth > 0", image))
        without = opened(browser, write_report(tmp_path / "report.html", replace(results, controls=None)))
        assert "None were run" in without.find_element("id", "controls").text

    def test_names_from_the_file_are_text_not_markup(self, browser, tmp_path, results):
        items = [replace(results.reconstructions[0], clip=NASTY)]
        provenance = {
            **results.provenance,
            "subject": {"subject_id": NASTY},
            "warnings": [NASTY],
            "command_line": NASTY,
        }
        scores = replace(results.scores, trials=results.scores.trials.replace({"clip": {"clip 0": NASTY}}))
        nasty = Results(replace(results.reconstructions, items=items), scores, provenance, results.true_movies[:1])
        browser.get_log("browser")
        page = opened(browser, write_report(tmp_path / "report.html", nasty))
        assert page.title == f"Reconstructed movies: mouse {NASTY}, session 4_7"
        assert page.find_element("css selector", ".warnings li").text == NASTY
        assert page.find_element("css selector", "#clip option").text == NASTY
        assert browser.get_log("browser") == []

    def test_the_player_plays_in_a_notebook(self, browser, tmp_path, results):
        player = play(results)
        assert "Jupyter" in repr(player)
        (tmp_path / "cell.html").write_text(f"<!DOCTYPE html><div>{player._repr_html_()}</div>", encoding="utf-8")
        browser.get_log("browser")
        browser.get((tmp_path / "cell.html").as_uri())
        browser.switch_to.frame(browser.find_element("tag name", "iframe"))
        wait(browser, lambda: frame(browser) is not None)
        browser.find_element("id", "shade").click()
        scrub(browser, 12)
        np.testing.assert_array_equal(pixels(browser, "video"), results.reconstructions[0].video[12])
        assert not browser.find_element("id", "raster").is_displayed()
        browser.switch_to.default_content()
        assert browser.get_log("browser") == []

    def test_the_exported_video_plays_frame_by_frame(self, browser, tmp_path, results):
        video = b64encode(write_video(tmp_path / "a.mp4", results, rows=[1], height=180).read_bytes()).decode()
        # not as a file: a page may not read the pixels of another file
        html = (
            f'<!DOCTYPE html><video id="v" src="data:video/mp4;base64,{video}" muted></video><canvas id="c"></canvas>'
        )
        (tmp_path / "a.html").write_text(f"<!DOCTYPE html>{html}", encoding="utf-8")
        browser.get((tmp_path / "a.html").as_uri())
        wait(browser, lambda: browser.execute_script("return document.getElementById('v').readyState >= 2"))
        item = results.reconstructions[1]
        wanted = list(side_by_side(item, results.true_movies[1], mask=results.reconstructions.mask, height=180))
        size = browser.execute_script("const v = document.getElementById('v'); return [v.videoHeight, v.videoWidth]")
        assert tuple(size) == wanted[0].shape[:2]
        assert browser.execute_script("return document.getElementById('v').duration") == pytest.approx(
            70 / 30, abs=0.05
        )
        for index in (0, 33, 69):
            levels = browser.execute_async_script(
                """
                const [at, done] = arguments, v = document.getElementById("v"), c = document.getElementById("c");
                v.addEventListener("seeked", () => {
                  [c.width, c.height] = [v.videoWidth, v.videoHeight];
                  const context = c.getContext("2d");
                  context.drawImage(v, 0, 0);
                  done([...context.getImageData(0, 0, c.width, c.height).data]);
                }, { once: true });
                v.currentTime = at;
                """,
                (index + 0.5) / 30,
            )
            shown = np.array(levels).reshape(*size, 4)[..., :3]
            errors = [np.abs(shown - frame).mean() for frame in wanted]
            assert int(np.argmin(errors)) == index
            assert min(errors) < 6

    def test_it_prints(self, page):
        import base64

        pdf = base64.b64decode(page.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
        assert pdf.startswith(b"%PDF")
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        page.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": 720, "height": 1000, "deviceScaleFactor": 1, "mobile": False},
        )
        try:
            # the widest of all, the table of clips, fits on paper
            assert page.execute_script("return document.documentElement.scrollWidth") <= 720
            assert not page.find_element("id", "play").is_displayed()
        finally:
            page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
            page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        assert page.execute_script("return [...document.querySelectorAll('details')].every((one) => one.open)")


def contrast(page):
    """Least contrast of text with what is behind it (WCAG 2.1), over elements that hold text of their own."""
    return page.execute_script(
        """
        const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
        const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => v <= 0.03928 ? v / 12.92
          : ((v + 0.055) / 1.055) ** 2.4).reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
        const behind = (one) => {
          for (let at = one; at; at = at.parentElement) {
            const color = rgb(getComputedStyle(at).backgroundColor);
            if (color.length < 4 || color[3] > 0) return color;
          }
          return [255, 255, 255];
        };
        let least = 21;
        for (const one of document.body.querySelectorAll("*")) {
          const owns = [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
          if (!owns || !one.getClientRects().length || one.closest("script, style, option, .skip")) continue;
          const [a, b] = [light(rgb(getComputedStyle(one).color)), light(behind(one))];
          least = Math.min(least, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
        }
        return least;
        """
    )


def test_the_file_needs_no_other(report):
    text = report.read_text(encoding="utf-8")
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", text)
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in text


def test_the_information_map_is_called_so_and_states_how_it_did(report, tmp_path, results):
    text = report.read_text(encoding="utf-8")
    assert "Information map: SD" in text
    assert "How it did on clips that it was not calibrated on is not known." in text
    model = {"n_clips": 8, "n_films": 3, "covered": 0.937, "rank_correlation": 0.13}
    known = replace(results.reconstructions, info=results.reconstructions.info | {"error_model": model})
    told = write_report(tmp_path / "report.html", replace(results, reconstructions=known)).read_text(encoding="utf-8")
    assert "held the truth at 94% of the pixels" in told


def test_only_what_fits_is_in_the_player_and_the_page_says_so(tmp_path, results):
    text = write_report(tmp_path / "report.html", results, megabytes=0.01).read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])
    assert [clip["label"] for clip in data["clips"]] == ["clip 0"]
    assert text.count("data-play=") == 1


def test_without_scores_or_truth_it_says_that_it_knows_no_quality(tmp_path, results):
    bare = Results(results.reconstructions, None, {}, None)
    text = write_report(tmp_path / "report.html", bare).read_text(encoding="utf-8")
    assert "nothing here says how faithful" in text
    assert 'data-stream="true"' not in text


def test_a_baseline_that_stands_in_is_called_by_its_name(tmp_path, results):
    """What `run` gives when the encoder does not see: the ridge decoder's movie, without uncertainty or history."""
    items = [
        replace(
            item,
            video=item.baselines["ridge"],
            baselines={},
            std=None,
            history=pd.DataFrame(),
            snapshots=None,
            snapshot_iterations=None,
        )
        for item in results.reconstructions
    ]
    scores = results.scores
    only = {name: getattr(scores, name).query("method == 'ridge'") for name in ("trials", "frames", "lags", "summary")}
    # frames that were not valid have no row at all
    only["frames"] = only["frames"][only["frames"]["frame"] >= 5]
    stand_in = replace(
        results,
        reconstructions=replace(results.reconstructions, items=items, method="ridge"),
        scores=replace(scores, **only),
    )
    text = write_report(tmp_path / "report.html", stand_in).read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])
    (curve,) = data["clips"][0]["curves"]
    assert curve["label"] == "ridge decoder"
    assert curve["values"][:5] == [None] * 5
    assert len(curve["values"]) == 70
    assert "Ridge decoder" in text
    assert 'id="way"' not in text
    assert 'data-stream="std"' not in text
    assert "information map" not in text


def test_a_failed_report_leaves_the_old_one(tmp_path, results):
    (tmp_path / "report.html").write_text("old")
    with pytest.raises(ResultsError, match="needs epoch"):
        write_report(tmp_path / "report.html", replace(results, training=pd.DataFrame({"a": [1]})))
    assert (tmp_path / "report.html").read_text() == "old"


def test_every_figure_is_there(report):
    text = report.read_text(encoding="utf-8")
    for words in (
        "Lag of best match",
        "What is slow or coarse, what is fast or fine",
        "Where the cells look",
        "How well each cell is predicted",
        "Training of the encoder",
        "How well the encoder predicts",
        "Every ROI, beside its ceiling",
        "When clips of each split were shown",
    ):
        assert words in text


def test_an_encoder_that_was_not_scored_has_no_section(tmp_path, results):
    rois = results.rois.drop(columns=["single_trial_correlation", "single_trial_ceiling"])
    bare = replace(results, encoder_summary=pd.DataFrame(), rois=rois)
    text = write_report(tmp_path / "report.html", bare).read_text(encoding="utf-8")
    assert "How well the encoder predicts" not in text
