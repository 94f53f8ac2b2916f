"""Answers that must look like something: JSON of a schema, a regular expression, a grammar, one of some texts. The demo model would
say none of it by itself."""

import json
import re
import signal
import threading
import unittest

import grpc
from cluster import Cluster, ask, error_info, wait_for
from http_test import Api, text_of

PROMPT = {"chat": "张三，三十岁，住在杭州，喜欢读书和下棋。"}
MESSAGES = [{"role": "user", "content": PROMPT["chat"]}]
SCHEMA = {"type": "object", "additionalProperties": False, "required": ["name", "age", "likes"],
          "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 6},
                         "age": {"type": "integer", "minimum": 0, "maximum": 150},
                         "likes": {"type": "array", "items": {"enum": ["读书", "下棋", "钓鱼"]}, "minItems": 1, "maxItems": 3}}}


def check_person(test, text):
    person = json.loads(text)
    test.assertEqual(list(person), ["name", "age", "likes"], "keys in the schema's order")
    test.assertTrue(1 <= len(person["name"]) <= 6, person)
    test.assertTrue(0 <= person["age"] <= 150 and isinstance(person["age"], int), person)
    test.assertTrue(1 <= len(person["likes"]) <= 3 and set(person["likes"]) <= {"读书", "下棋", "钓鱼"}, person)


class StructuredTest(unittest.TestCase):
    def test_every_kind_over_grpc_on_two_shards(self):
        with Cluster(shards=2) as cluster, cluster.stub() as stub:
            def answer(**options):
                options.setdefault("max_new_tokens", 300)
                return ask(stub, PROMPT, **options)
            for seed in range(4):
                hot = {"temperature": 1.2, "seed": seed}
                check_person(self, answer(constraint={"json_schema": json.dumps(SCHEMA)}, **hot).text)
                self.assertRegex(answer(constraint={"regex": "(男|女), [1-9][0-9]?岁"}, **hot).text, "^(男|女), [1-9][0-9]?岁$")
                self.assertIn(answer(constraint={"choices": ["是", "不是", "不知道"]}, **hot).text, ("是", "不是", "不知道"))
                sum_of = answer(constraint={"grammar": 'root ::= term ("+" term){1,3}\nterm ::= [0-9] | "(" root ")"'}, **hot)
                if sum_of.finished.choices[0].finish_reason == 1:
                    self.assertIsInstance(eval(sum_of.text, {}), int)  # pylint: disable=eval-used
                whole = answer(constraint={"json_object": True}, **hot)
                if whole.finished.choices[0].finish_reason == 1:
                    self.assertIsInstance(json.loads(whole.text), dict)
            several = answer(constraint={"json_schema": json.dumps(SCHEMA)}, n=4, temperature=1.0, seed=5)
            self.assertEqual(len(several.texts), 4)
            for text in several.texts.values():
                check_person(self, text)
            stopped = answer(constraint={"regex": "[ab]{30}"}, stop_strings=["a"], seed=1, temperature=1.0)
            self.assertRegex(stopped.text, "^b{0,29}$")
            self.assertEqual(stopped.finished.choices[0].stop_string, "a")
            for wrong, field in (({"regex": "("}, "regex"), ({"json_schema": '{"type": "nothing"}'}, "json_schema"),
                                 ({"grammar": "root ::= other"}, "grammar"), ({"choices": []}, "choices")):
                with self.assertRaises(grpc.RpcError) as caught:
                    answer(constraint=wrong if wrong != {"choices": []} else {"choices": [""]})
                self.assertEqual(caught.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)
                self.assertEqual(list(error_info(caught.exception)[2]), [f"sampling.constraint.{field}"])
            cluster.assert_nothing_held()

    def test_the_same_request_gives_the_same_tokens_alone_and_in_a_crowd(self):
        with Cluster() as alone, alone.stub() as stub:
            requests = [{"constraint": {"json_schema": json.dumps(SCHEMA)}, "max_new_tokens": 200, "temperature": 1.0, "seed": seed}
                        for seed in range(12)]
            expected = [ask(stub, PROMPT, **request).tokens for request in requests]
        with Cluster(shards=3) as crowd, crowd.stub() as stub:
            found = [None] * len(requests)

            def one(i):
                found[i] = ask(stub, PROMPT, **requests[i]).tokens
            threads = [threading.Thread(target=one, args=(i,)) for i in range(len(requests))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        self.assertEqual(found, expected)

    def test_http_in_the_words_of_every_server(self):
        with Cluster() as cluster:
            api = Api(cluster)

            def say(**member):
                status, body = api.post("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 300, "seed": 3, **member})
                self.assertEqual(status, 200, body)
                self.assertEqual(body["choices"][0]["finish_reason"], "stop")
                return body["choices"][0]["message"]["content"]
            schema = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": SCHEMA}}
            first = say(response_format=schema)
            check_person(self, first)
            for member in ({"guided_json": SCHEMA}, {"json_schema": SCHEMA}, {"structured_outputs": {"json": SCHEMA}}):
                self.assertEqual(say(**member), first)
            self.assertRegex(say(guided_regex="[0-9]{4}-[01][0-9]"), "^[0-9]{4}-[01][0-9]$")
            self.assertIn(say(guided_choice=["好评", "差评"]), ("好评", "差评"))
            self.assertRegex(say(grammar='root ::= "a"+ "b"', temperature=1.5), "^a+b$")
            events = api.stream("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 300, "response_format": schema, "seed": 3})
            self.assertEqual(text_of(events), first)
            status, body = api.post("/v1/completions", {"prompt": "春", "max_tokens": 40, "guided_regex": "[a-z]{3} [a-z]{3}"})
            self.assertRegex(body["choices"][0]["text"], "^[a-z]{3} [a-z]{3}$")
            status, body = api.post("/v1/chat/completions", {"messages": MESSAGES, "guided_json": {"type": "object", "not": {}}})
            self.assertEqual((status, body["error"]["param"]), (400, "json_schema"))
            self.assertIn("not", body["error"]["message"])
            cluster.assert_nothing_held()

    def test_a_stream_whose_worker_dies_still_gives_what_was_asked_for(self):
        digits = {"constraint": {"regex": "([0-9]{8} ){40}"}, "max_new_tokens": 480, "temperature": 1.0, "seed": 9}
        with Cluster(groups=2) as cluster, cluster.stub() as stub:
            ready = f'yangtuo_workers_ready{{model="{cluster.model_name}"}}'
            wait_for(lambda: cluster.gateway.metrics().get(ready) == 2, "both groups are ready")
            expected = ask(stub, PROMPT, **digits).text
            self.assertRegex(expected, "^([0-9]{8} )+$")
            from cluster import generate_request
            stream = stub.Generate(generate_request(PROMPT, **digits), timeout=60)
            text, killed = "", False
            for response in stream:
                text += response.delta.text
                if not killed and len(text) > 20:
                    killed = True
                    busy = [leader for leader in cluster.leaders() if leader.metric("yangtuo_requests_running") > 0]
                    for leader in busy[:1]:
                        leader.kill(signal.SIGKILL)
            self.assertTrue(killed)
            self.assertEqual(text, expected)


if __name__ == "__main__":
    unittest.main()
