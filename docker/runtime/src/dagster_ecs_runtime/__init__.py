"""The program in every webserver and daemon task: follows the DAG releases in S3 and swaps them blue-green."""
