"""The whole way as resumable steps.

Its modules are imported one by one, so that looking into a file does not wait for what only training needs.
"""
