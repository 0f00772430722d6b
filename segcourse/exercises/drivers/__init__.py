"""How answers are run whose arguments or results are more than plain data: one module a lesson.

A driver takes the answer and a case, and returns plain data: None, bools, numbers, strings, `...`, tensors, arrays, and
lists, tuples and dicts of these. It runs beside the answer, where a grader lets a student's code see nothing else of
the exercise; so nothing in here knows a right answer or a mistake, nor imports what does. Most answers take and return
plain data: their driver is `exercise.call`. What can be told from the returned data is left to `Exercise.measure`.
"""
